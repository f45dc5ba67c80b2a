import pytest

from workbench.evaluation.numbers import number


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("AP50", 0.12345, "0.123"),
        ("AP (search)", 1.0, "1.000"),
        ("mIoU", 0.5, "0.500"),
        ("IoU fish", 0.12345, "0.123"),
        ("top1", 0.12345, "0.123"),
        ("ImageNet top-1", 1.0, "1.000"),
        ("PCK", 0.9, "0.900"),
        ("backbone_macs", 300_123_456, "300.1M"),
        ("MACs", 999_999, "1M"),
        ("macs", 1_234_567_890, "1.235G"),
        ("params", 512, "512"),
        ("seconds", 1234.56, "1,234.6"),
        ("images", 12_800, "12,800"),
        ("rate", 0.00012345, "0.0001234"),
    ],
)
def test_numbers_in_their_units(column: str, value: float, text: str) -> None:
    assert number(column, value) == text

"""The command line: `python -m workbench {run,report,site,runs,predict,published,bench,doctor}`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from workbench.records.files import plain

# Each command imports what it needs when it runs, so that --help and mistakes answer at once.


def run(arguments: argparse.Namespace) -> int:
    """Execute notebooks; 1 when one of them failed."""
    from workbench.batch.run import run_notebooks

    sweep: dict[str, list[str]] = {}
    for text in arguments.sweep:
        name, _, values = text.partition("=")
        sweep[name] = values.split(",")
        if not name or not all(sweep[name]):
            raise ValueError(f"Expected --sweep NAME=V1,V2, got {text!r}; write for example --sweep seed=0,1,2.")
    given = dict(arguments.parameter)
    if len(given) < len(arguments.parameter) or len(sweep) < len(arguments.sweep):
        raise ValueError("Expected each parameter once, but one was given twice; use --sweep NAME=V1,V2 for several.")
    if arguments.fresh:
        given["fresh"] = True
    if arguments.rehearse:
        return _rehearse(arguments.notebooks, given, sweep)
    code = 0
    by = {"engine": arguments.engine, "workers": arguments.workers, "echo": sys.stdout}
    for done in run_notebooks(arguments.notebooks, parameters=given, sweep=sweep, **by):
        ended = "failed after" if done.error else "finished in"
        say(f"{done.source}: {ended} {done.seconds:.1f} s, {done.run or done.notebook}")
        if done.error:
            say(f"workbench: {done.error}; partial notebook: {done.notebook}", sys.stderr)
            code = 1
    return code


def _rehearse(notebooks: Sequence[Path], given: dict[str, Any], sweep: dict[str, list[str]]) -> int:
    from workbench.batch import rehearsal
    from workbench.batch.run import run_notebooks

    if sweep:
        raise ValueError("A rehearsal is of one preset; leave out --sweep.")
    code = 0
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "1048576"  # what is freed goes back at once, so that peaks are of one phase
    for notebook, chosen in [(path, rehearsal.parameters(path, given)) for path in notebooks]:
        (done,) = run_notebooks([notebook], parameters=chosen, echo=sys.stdout)
        if done.error or done.run is None:
            say(f"workbench: {done.error}; partial notebook: {done.notebook}", sys.stderr)
            code = 1
        else:
            say(f"{done.source}: finished in {done.seconds:.1f} s, {done.run}\n\n{rehearsal.write(done.run)}")
    return code


def report(arguments: argparse.Namespace) -> None:
    """Write Markdown or one table as CSV when asked for, else (or also when --html is given) one HTML page.

    With --json all of it goes to the standard output instead of a page.
    """
    from workbench.batch.report import as_json, find_runs, state_of, write_html, write_markdown
    from workbench.batch.tables import collect
    from workbench.records.files import write_text

    runs = find_runs(arguments.runs)
    for run in runs:
        if run.status != "finished":
            print(f"{run.path} is {state_of(run)}", file=sys.stderr)
    written = []
    if arguments.csv:
        name, path = arguments.csv
        write_text(path, collect(runs, name).to_csv(index=False))
        written.append(path)
    if arguments.markdown:
        write_markdown(runs, arguments.markdown, arguments.tables)
        written.append(arguments.markdown)
    if arguments.html or not (written or arguments.json):
        page = arguments.html or Path("runs") / "report.html"
        write_html(runs, page)
        written.append(page)
    if arguments.json:
        _print_json(as_json(runs))
    else:
        print(*written, sep="\n")


def site(arguments: argparse.Namespace) -> None:
    """Write executed notebooks as pages, an index and the report; print where the index is."""
    from workbench.batch.site import executed, write_site

    print(write_site(executed(arguments.runs), arguments.out)[0])


def runs(arguments: argparse.Namespace) -> None:
    """List runs and what they share; empty the cache when asked."""
    from workbench.batch.listing import cached, clean_cache, list_runs, size_of

    root = arguments.folder
    if not root.is_dir():
        raise ValueError(f"Expected a folder of runs, but {root} is none; give the one where runs are written.")
    found, caches = list_runs(root), cached(root)
    size = sum(map(size_of, caches))
    kept = clean_cache(caches) if arguments.clean_cache else caches
    left = sum(map(size_of, kept))
    if arguments.json:
        rows = [{**vars(run), "path": str(run.path)} for run in found]
        _print_json({"runs": rows, "cache": {"folders": len(kept), "bytes": left, "freed": size - left}})
        return
    for run in found:
        print(f"{run.path}  {run.started[:16]}  {run.bytes / 1e6:,.1f} MB  {run.status}", *run.outcomes, sep="\n    ")
    if arguments.clean_cache:
        print(f"{(size - left) / 1e6:,.1f} MB freed; later runs train again what they need of it.")
    print(f"{len(found)} runs; {root / 'cache'}: {len(kept)} trainings that runs share, {left / 1e6:,.1f} MB")


def predict(arguments: argparse.Namespace) -> None:
    """Draw the boxes that a finished run's detector finds on images."""
    from workbench.records.run_folder import RunFolder

    status = RunFolder(arguments.run).status
    if status != "finished":
        raise ValueError(f"Expected a finished run, but {arguments.run} is {status}; finish it first.")
    from workbench.methods.detector_file import predict_images

    told = predict_images(arguments.run, arguments.images, arguments.out or arguments.run / "predictions")
    if arguments.json:
        _print_json(told)
    else:
        say("\n".join(record["drawing"] for record in told))


def published(arguments: argparse.Namespace) -> None:
    """Print what the papers print of their networks next to what is counted here, and where their plans deviate."""
    from workbench.batch.published import as_json, as_markdown

    if arguments.json:
        _print_json(as_json())
    else:
        print(as_markdown(), end="")


def bench(arguments: argparse.Namespace) -> None:
    """Print how fast the package is here: ratios of two things timed in turn, with quartiles."""
    from workbench.batch.bench import as_markdown, figures

    found = list(figures(arguments.rounds))
    if arguments.json:
        _print_json([row._asdict() for row in found])
    else:
        print(as_markdown(found), end="")


def doctor(arguments: argparse.Namespace) -> int:
    """Say in plain words what is installed and how healthy the data sets are; 1 for problems."""
    from workbench.batch.doctor import examine

    findings = []
    for sentence, is_problem in examine(arguments.data):
        findings.append({"sentence": sentence, "problem": bool(is_problem)})
        if not arguments.json:
            say(sentence)
    if arguments.json:
        _print_json(findings)
    return int(any(finding["problem"] for finding in findings))


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def say(text: object, stream: TextIO | None = None) -> None:
    """Prints names from files as they are, without what they might do to a terminal."""
    print(plain(str(text), keep="\n"), file=stream or sys.stdout, flush=True)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]  # one sentence instead of the usage text
        print(f"workbench: {message}; see python -m {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 1 when a notebook failed, 2 for a mistake in the command, 130 after Ctrl-C."""
    parser = _Parser(prog="workbench", description="Search detector backbones, notebook by notebook.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("run", help="execute notebooks without a person")
    command.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    command.add_argument("-p", dest="parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    command.add_argument("--sweep", action="append", default=[], metavar="NAME=V1,V2", help="run once per value")
    command.add_argument("--fresh", action="store_true", help="start anew instead of continuing an unfinished run")
    command.add_argument("--rehearse", action="store_true", help="a paper's preset at full size, two steps of each")
    command.add_argument("--engine", default="local", metavar="ENGINE", help="local, ray, or auto or host:port of Ray")
    command.add_argument("--workers", type=int, default=0, metavar="N", help="of the engine; default all that it has")
    command.set_defaults(command=run)

    command = commands.add_parser("report", help="one HTML page, or Markdown tables over seeds")
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run, or a folder: its newest run")
    command.add_argument("--html", type=Path, metavar="FILE", help="default runs/report.html")
    command.add_argument("--markdown", type=Path, metavar="FILE")
    command.add_argument("--tables", nargs="+", default=[], metavar="TABLE", help="only these, in the Markdown")
    command.add_argument("--csv", nargs=2, metavar=("TABLE", "FILE"), help="the rows of one table of all the runs")
    command.set_defaults(command=report)

    command = commands.add_parser("site", help="executed notebooks as pages that need no network, and the report")
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="as for report; or an executed notebook")
    command.add_argument("--out", type=Path, default=Path("runs") / "site", metavar="DIR", help="default runs/site")
    command.set_defaults(command=site)

    command = commands.add_parser("runs", help="list runs: status, outcome, size")
    command.add_argument("folder", nargs="?", type=Path, default=Path("runs"), metavar="DIR", help="default runs")
    command.add_argument("--clean-cache", action="store_true", help="delete the trainings that runs share")
    command.set_defaults(command=runs)

    command = commands.add_parser("predict", help="a finished run's detector on your own images")
    command.add_argument("run", type=Path, metavar="RUN")
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    command.add_argument("--out", type=Path, metavar="DIR", help="default RUN/predictions")
    command.set_defaults(command=predict)

    command = commands.add_parser("published", help="the papers' networks: printed cost, counted cost, difference")
    command.add_argument("--json", action="store_true", help="the same as JSON")
    command.set_defaults(command=published)

    command = commands.add_parser("bench", help="how fast: ratios of two things timed in turn, in five minutes")
    command.add_argument("--rounds", type=_positive, default=10, metavar="N", help="default 10; 1 is a quick look")
    command.set_defaults(command=bench)

    command = commands.add_parser("doctor", help="versions, device, data set health")
    folder = os.environ.get("WORKBENCH_DATA") or None  # argparse reads a text as the type says
    command.add_argument("--data", type=Path, metavar="DIR", default=folder)
    command.set_defaults(command=doctor)

    for name in ("report", "runs", "predict", "bench", "doctor"):
        commands.choices[name].add_argument("--json", action="store_true", help="print what a program can read")
    arguments = parser.parse_args(words)
    try:
        return int(arguments.command(arguments) or 0)
    except (ValueError, OSError, ImportError) as error:
        say(f"workbench: {error}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("workbench: interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())

"""The command line: `python -m fastinit info`, `init`, `check` and `bench`."""

import argparse
from collections.abc import Sequence

from fastinit import init_cli, machine
from fastinit.function_laws import NAMES
from fastinit.self_check import by_law
from fastinit.streams import current_stream

# The names, not architectures itself, which the other commands have no use for.
_MODELS = ("llama-1b", "llama-8b", "gpt2-xl", "bert-large", "vit-l", "resnet-50", "resnet-152", "c3d")
_DTYPES = ("float32", "bfloat16", "float16")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.command == "info":
        info()
    elif given.command == "init":
        init_cli.run(given)
    elif given.command == "check":
        check(given.folder, given.json)
    elif given.report is None and (given.suite or given.source):
        parser.error("bench: --quick, --full and --from go with --report DIR")  # or a model would be measured instead
    else:
        bench(given)


def bench(given: argparse.Namespace) -> None:
    """Measure one model, or the suite of benchmarks/."""
    if given.check is not None:
        from fastinit.bench import compare

        compare.check(given.check)
    elif given.report is not None:
        from fastinit.bench.suite import report

        report(given.report, given.suite or "quick", given.source)
    else:
        from fastinit.bench.model import bench

        bench(given.model, given.dtype, given.threads, given.repeat, given.seed, given.json)


def check(folder: str, json_path: str | None) -> None:
    """Print what the folder's files hold; the exit status is 1 where something is wrong."""
    from fastinit.check.folder import check_folder

    try:
        report = check_folder(folder)
        report.show()
        if json_path is not None:
            report.to_json(json_path)
    except OSError as error:
        raise SystemExit(f"python -m fastinit check: {error}") from error
    if not report.ok:
        raise SystemExit(1)


def info() -> None:
    about = machine.describe()
    isas, _ = about.pop("isas"), about.pop("torch_stream")
    assert isinstance(isas, list)
    for name, value in about.items():
        print(f"{name:<14}{value}")
    print(f"{'isas':<14}{' '.join(isas)} (FASTINIT_ISA=... forces one)")
    print(f"{'stream':<14}{current_stream()} (fastinit.set_default_stream chooses)")
    print(f"{'keyed stream':<14}{' '.join(NAMES)}")
    for native, way in ((True, "native"), (False, "torch's own code")):
        for types in by_law(native=native):
            print(f"{'torch stream':<14}{types}: {way}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fastinit", description="A fast initialiser of PyTorch weights.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="versions, instruction sets, threads, native functions")
    init_cli.add_parser(commands, key=_seed)
    _add_bench(commands)
    check = commands.add_parser(
        "check",
        help="measure the tensors of a folder of safetensors files against their laws",
        description="Measure every tensor of the safetensors files in DIR: against the laws in its fastinit.json, "
        "which save_checkpoint writes, or, where there is none, for NaN and infinities. Missing, torn and left-over "
        "files are looked for too. The exit status is 1 where something is wrong.",
        epilog="example: python -m fastinit check out --json out.json",
    )
    check.add_argument("folder", metavar="DIR", help="the folder of the checkpoint")
    check.add_argument("--json", metavar="FILE", help="write the figures there too")
    return parser


def _add_bench(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "bench",
        help="initialise a real model with torch.nn.init and with fastinit, or measure every function",
        description="Initialise a real model with torch.nn.init and with fastinit, in one process; or, with --report, "
        "measure every function by type, size and number of threads, and write a report with pictures.",
        epilog="example: python -m fastinit bench --model gpt2-xl --dtype bfloat16 --json gpt2.json, or "
        "python -m fastinit bench --report out --quick",
    )
    model = parser.add_argument_group("one model")
    model.add_argument("--model", choices=_MODELS, default="llama-1b", help="the architecture (default: %(default)s)")
    model.add_argument("--dtype", choices=_DTYPES, default="float32", help="of the parameters (default: %(default)s)")
    model.add_argument("--threads", type=_positive, help="for both; torch's own number if not given")
    model.add_argument("--repeat", type=_positive, default=3, help="passes of each; the fastest counts (default: 3)")
    model.add_argument("--seed", type=_seed, default=0, help="of both streams (default: 0)")
    model.add_argument("--json", metavar="FILE", help="write the figures and the machine there too")
    suite = parser.add_argument_group("every function (in a checkout: the suite is in benchmarks/)")
    what = suite.add_mutually_exclusive_group()
    what.add_argument("--report", metavar="DIR", help="write report.md, report.html, report.json and pictures there")
    size = suite.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="suite", action="store_const", const="quick", help="under two minutes (default)")
    size.add_argument(
        "--full", dest="suite", action="store_const", const="full", help="10 to 2^28 elements: forty minutes"
    )
    size.add_argument("--from", dest="source", metavar="FILE", help="an earlier report.json, written anew")
    what.add_argument("--check", metavar="FILE", help="compare the quick suite's ratios with those of a report.json")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**64:
        raise argparse.ArgumentTypeError(f"must be a whole number in [0, 2**64), got {text}")
    return int(text)


if __name__ == "__main__":
    main()

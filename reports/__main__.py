"""`python -m reports <report folder or study.json>`: build the report from what is finished."""

import argparse
import sys
from pathlib import Path

from core.errors import UserError
from reports.build import build


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m reports", description=__doc__)
    parser.add_argument("study", type=Path, help="outputs/reports/<study> or the study.json in it")
    parser.add_argument("--partial", action="store_true", help="only table.csv and figure.png")
    arguments = parser.parse_args()
    folder = arguments.study.parent if arguments.study.is_file() else arguments.study
    try:
        report = build(folder, partial=arguments.partial)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"report of {report.manifest.study.name}: {report.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The documentation is true: its links lead somewhere, and the README's commands work from a fresh clone."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.request import read
from tests.commandline import ROOT, call

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_page_can_be_found_from_the_readme():
    seen, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page not in seen:
            seen.add(page)
            targets = re.findall(r"\]\(([^)#]+\.md)[^)]*\)", page.read_text())
            left += [(page.parent / target).resolve() for target in targets if not target.startswith("http")]
    assert set(PAGES) <= seen


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_that_are_run_are_there_to_be_run(page: Path):
    for module in re.findall(r"python -m ((?:core|sweeps|reports|tests)[\w.]*)", page.read_text()):
        file = ROOT / module.replace(".", "/")
        file = file / "__main__.py" if file.is_dir() else file.with_suffix(".py")
        assert "__main__" in file.read_text(), module


def test_the_readme_has_the_two_commands():
    lines = [line.strip() for line in (ROOT / "README.md").read_text().splitlines()]
    assert "pip install -e . && python sweeps/run.py study=augment_pairs" in lines
    assert "pip install -e '.[test]' && pytest" in lines


def test_every_command_line_of_the_readme_is_accepted(tmp_path: Path):
    """As plans, since the runs themselves would take hours."""
    text = (ROOT / "README.md").read_text()
    commands = re.findall(r"^    python (sweeps/run\.py[^#\n]*)", text, re.MULTILINE)
    assert len(commands) > 8
    for command in commands:
        script, *arguments = shlex.split(command)
        if any(argument in arguments for argument in ("data.root=DIR",)):
            continue  # pictures of the user's own
        if "launcher=slurm" in arguments:
            read(arguments)  # planning it asks a cluster
            continue
        planned = [a for a in arguments if not a.startswith("action=")]
        if planned and planned != ["--keys"]:
            planned.append("action=plan")
        done = subprocess.run(
            [sys.executable, str(ROOT / script), *planned], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, (command, done.stderr)


def test_the_main_command_works_from_a_fresh_clone_in_a_path_with_a_space(tmp_path: Path):
    clone = tmp_path / "a fresh clone"
    cloned = subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], capture_output=True, text=True)
    if cloned.returncode:
        pytest.skip(f"not a git checkout: {cloned.stderr.strip()}")
    narrowed = ["scale=smoke", "augment.transforms.0=crop", "augment.transforms.1=crop,color"]
    done = subprocess.run(
        [sys.executable, "sweeps/run.py", "study=augment_pairs", *narrowed],
        cwd=clone,
        env={**os.environ, "PYTHONPATH": str(clone)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (clone / "outputs" / "reports" / "augment_pairs" / "report.html").exists()
    status = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    assert status.stdout == ""


def test_the_study_of_the_readme_is_a_study(tmp_path: Path):
    text = (ROOT / "README.md").read_text()
    block = re.search(r"\n(    name: tau\n.*?)\n\n[A-Z]", text, re.DOTALL)
    assert block is not None
    (tmp_path / "studies" / "study").mkdir(parents=True)
    lines = [line.removeprefix("    ") for line in block[1].splitlines()]
    (tmp_path / "studies" / "study" / "tau.yaml").write_text("\n".join(lines))
    done = call(tmp_path, "--config-dir", "studies", "study=tau", "action=plan")
    assert done.returncode == 0, done.stderr
    assert "4 cells" in done.stdout

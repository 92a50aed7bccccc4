"""The claims of all studies say what the paper says: they hold on its numbers, and seldom on shuffled ones."""

import pytest

from reports.claims import INCONCLUSIVE, SUPPORTED
from tests.claims_on_paper import NOT_PRINTED, Decided, decide_all, summarize


@pytest.fixture(scope="module")
def found() -> list[Decided]:
    return list(decide_all())


def test_every_claim_of_the_paper_holds_on_its_own_numbers(found):
    verdicts = {
        (decided.study, claim.id): verdict.verdict
        for decided in found
        for claim, verdict in zip(decided.claims, decided.verdicts, strict=True)
    }
    assert {key for key, verdict in verdicts.items() if verdict != SUPPORTED} == NOT_PRINTED
    assert {verdicts[key] for key in NOT_PRINTED} == {INCONCLUSIVE}


def test_shuffled_numbers_seldom_support_a_claim(found):
    summary = summarize(found)
    assert summary.claims >= 30
    assert summary.shuffled_percent < 10

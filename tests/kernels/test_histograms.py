import pytest
import torch
from grnlab_kernels import pair_panels, reference
from grnlab_kernels.histograms import Histogram, auprc_from_histograms, epr_from_histograms, head_hist, pair_hist
from grnlab_kernels.pairs import gather_pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

SCALE = 0.3


def pooled(n_heads=3, n_genes=47, d_head=8, *, size=1.5, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return size * torch.randn(2, n_heads, n_genes, d_head, generator=rng)


def some(n_genes, n_chosen, seed=1):
    return torch.randperm(n_genes, generator=torch.Generator().manual_seed(seed))[:n_chosen]


def ranked(x_EH, truth_E):
    """Average precision by scikit-learn, and expected precision among the top K over the base rate."""
    n_true = int(truth_E.sum())
    epr = []
    for x_E in x_EH.T:
        cut = x_E.sort(descending=True).values[n_true - 1]
        above, at = x_E > cut, x_E == cut
        found = truth_E[above].sum() + (n_true - above.sum()) * truth_E[at].double().mean()
        epr.append(float(found) / n_true / (n_true / len(truth_E)))
    return [average_precision_score(truth_E, x_E) for x_E in x_EH.T], epr


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("known", [False, True], ids=["", "known lse"])
@pytest.mark.parametrize(("n_query", "n_key"), [(47, 47), (20, 47), (47, 13), (20, 13), (1, 1)])
@pytest.mark.parametrize("panel_bytes", [32 << 20, 1])
def test_counts_every_pair_once(monkeypatch, n_query, n_key, known, panel_bytes):
    monkeypatch.setitem(pair_panels._PANEL_BYTES, "cpu", panel_bytes)
    q, k = pooled()
    query, key = some(47, n_query), some(47, n_key, seed=2)
    lse = reference.row_lse(q, k, scale=SCALE).float() if known else None
    got = head_hist(q, k, scale=SCALE, query=query, key=key, lse_HN=lse).counts_HB
    pair = reference.universe(47, query, key)
    expected = pair_hist(gather_pairs(q, k, *pair, scale=SCALE, lse_HN=lse)).counts_HB
    assert got.dtype == torch.int64
    assert got.shape == (3, 32_513)
    assert got.sum(-1).tolist() == [len(pair[0])] * 3
    assert (got - expected).abs().sum() <= 0.01 * expected.sum() + 2  # a rounding moves a pair to the next bin


def test_bins_are_in_the_order_of_the_shares():
    shares = torch.tensor([0.0, -0.0, 1e-45, 1e-30, 1e-3, 0.5, 0.51, 1.0 - 2**-24, 1.0])
    bins = [int(pair_hist(share.reshape(1, 1)).counts_HB.nonzero()[0, 1]) for share in shares]
    assert bins == sorted(bins)
    assert bins[:3] == [0, 0, 0]
    assert bins[-2:] == [32_511, 32_512]
    assert bins[5] < bins[6]
    many = pair_hist(shares[:, None].expand(9, 2).contiguous()).counts_HB
    assert many.sum(-1).tolist() == [9, 9]
    assert many[0, 0] == 3


@pytest.mark.parametrize("share", [3e-4, 0.003, 0.03])
def test_auprc_and_epr_are_those_of_the_exact_scores(share):
    q, k = pooled(4, 300, 16, size=0.8)
    rng = torch.Generator().manual_seed(3)
    pair = torch.stack(reference.universe(300, None, None))
    truth_E = torch.rand(pair.shape[1], generator=rng) < share
    for target, regulator in pair[:, truth_E].T[:400]:  # head 0 sees some of them
        k[0, regulator] += 1.5 * q[0, target]
    auprc, epr = ranked(reference.gather_pairs(q, k, *pair, scale=SCALE), truth_E)
    every = head_hist(q, k, scale=SCALE)
    positives = pair_hist(gather_pairs(q, k, *pair[:, truth_E], scale=SCALE))
    got = auprc_from_histograms(every, positives)
    assert got.dtype == torch.float64
    assert got.tolist() == pytest.approx(auprc, rel=2e-3, abs=1e-5)
    one = 1 / float(truth_E.sum()) / share  # a pair more or less among the top
    assert epr_from_histograms(every, positives).tolist() == pytest.approx(epr, rel=0.01, abs=one)
    assert auprc[0] > 1.3 * auprc[1]


@settings(max_examples=50)
@given(
    levels=st.lists(st.integers(0, 6), min_size=2, max_size=40), seed=st.integers(0, 1000), n_true=st.integers(1, 39)
)
def test_scores_apart_are_ranked_as_in_scikit_learn(levels, seed, n_true):
    """Powers of two have bins of their own. Average precision is compared without ties, early precision with them."""
    n_true = min(n_true, len(levels))
    truth_E = torch.zeros(len(levels), dtype=torch.bool)
    truth_E[some(len(levels), n_true, seed)] = True
    apart_EH, tied_EH = 2.0 ** -torch.arange(len(levels))[:, None], 2.0 ** -torch.tensor(levels)[:, None]
    auprc = auprc_from_histograms(pair_hist(apart_EH), pair_hist(apart_EH[truth_E]))
    assert auprc.tolist() == pytest.approx(ranked(apart_EH, truth_E)[0])
    epr = epr_from_histograms(pair_hist(tied_EH), pair_hist(tied_EH[truth_E]))
    assert epr.tolist() == pytest.approx(ranked(tied_EH, truth_E)[1])


def test_a_constant_head_is_at_chance():
    x_EH = torch.full((1000, 1), 0.3)
    assert auprc_from_histograms(pair_hist(x_EH), pair_hist(x_EH[:50])).item() == pytest.approx(51 / 1001)
    assert epr_from_histograms(pair_hist(x_EH), pair_hist(x_EH[:50])).item() == pytest.approx(1.0)


def test_a_positive_one_bin_too_high_is_still_a_pair():
    every, positives = pair_hist(torch.tensor([[0.5], [0.25]])), pair_hist(torch.tensor([[0.6]]))
    assert auprc_from_histograms(every, positives).tolist() == [1.0]
    assert epr_from_histograms(every, positives).tolist() == [2.0]


def test_number_of_threads_changes_nothing(threads, monkeypatch):
    monkeypatch.setitem(pair_panels._PANEL_BYTES, "cpu", 1)
    q, k = pooled(n_genes=100)
    counts = []
    for number in (1, 2, 5):
        threads(number)
        counts.append(head_hist(q, k, scale=SCALE).counts_HB)
    assert torch.equal(counts[0], counts[1])
    assert torch.equal(counts[0], counts[2])


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 30))
def test_universes_cut_in_two_add_up(seed, cut):
    q, k = pooled(n_genes=30, seed=seed)
    key = some(30, 30, seed)
    parts = [head_hist(q, k, scale=SCALE, key=part).counts_HB for part in (key[:cut], key[cut:])]
    whole = head_hist(q, k, scale=SCALE).counts_HB
    assert (parts[0] + parts[1] - whole).abs().sum() <= 0.01 * whole.sum()
    assert torch.equal((parts[0] + parts[1]).sum(-1), whole.sum(-1))


def test_degenerate_universes():
    q, k = pooled()
    for universe in ({"query": some(47, 0)}, {"key": some(47, 0)}, {"query": some(47, 1), "key": some(47, 1)}):
        assert not head_hist(q, k, scale=SCALE, **universe).counts_HB.any()
    assert not head_hist(*pooled(n_genes=1), scale=SCALE).counts_HB.any()
    with torch.inference_mode():
        assert head_hist(q.clone(), k, scale=SCALE).counts_HB.sum() == 3 * 47 * 46


def test_operation_is_well_registered():
    q, k = pooled()
    options = {"lse_HN": None, "scale": SCALE, "backend": "torch"}
    torch.library.opcheck(torch.ops.grnlab.head_hist.default, (q, k, some(47, 9), some(47, 5)), options)


def test_bad_arguments():
    q, k = pooled()
    with pytest.raises(ValueError, match="same shape"):
        head_hist(q, k[:1], scale=SCALE)
    with pytest.raises(ValueError, match="query lists gene 4 2 times"):
        head_hist(q, k, scale=SCALE, query=torch.tensor([4, 4]))
    with pytest.raises(ValueError, match=r"head 1 at query gene \d+ is nan"):
        head_hist(q.index_fill(0, torch.tensor(1), torch.nan), k, scale=SCALE)
    with pytest.raises(RuntimeError, match=r'backend="triton" cannot run'):
        head_hist(q, k, scale=SCALE, backend="triton")
    for x in (torch.tensor([[1.1]]), torch.tensor([[-0.1]]), torch.tensor([[torch.nan]]), torch.ones(2), q[0].double()):
        with pytest.raises(ValueError, match="expected float32 shares of attention"):
            pair_hist(x)
    one, two = pair_hist(torch.ones(1, 1)), pair_hist(torch.ones(2, 2))
    for statistic in (auprc_from_histograms, epr_from_histograms):
        with pytest.raises(ValueError, match="expected the same heads"):
            statistic(two, one)
        with pytest.raises(ValueError, match=r"heads have \[\(2, 0\)\] \(all, positive\) pairs"):
            statistic(two, Histogram(torch.zeros_like(two.counts_HB)))
        with pytest.raises(ValueError, match="expected one universe for all heads"):
            statistic(Histogram(two.counts_HB * torch.tensor([[1], [2]])), two)

import pytest
import torch
from grnlab_kernels import pair_panels, pairs, reference
from grnlab_kernels.pairs import gather_pairs, head_gram
from hypothesis import given, settings
from hypothesis import strategies as st

SCALE = 0.3


def pooled(n_heads=3, n_genes=47, d_head=8, *, size=1.5, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return size * torch.randn(2, n_heads, n_genes, d_head, generator=rng)


def some(n_genes, n_chosen, seed=1):
    return torch.randperm(n_genes, generator=torch.Generator().manual_seed(seed))[:n_chosen]


def close(got, expected, rtol=2e-6):
    torch.testing.assert_close(got.double(), expected.double(), rtol=rtol, atol=0)


UNIVERSES = {
    "all": (None, None),
    "some queries": (some(47, 20), None),
    "some keys": (None, some(47, 13)),
    "both": (some(47, 20), some(47, 13, seed=2)),
    "apart": (torch.arange(20), torch.arange(20, 47)),
    "one pair": (torch.tensor([5]), torch.tensor([3])),
    "every key, mixed": (some(47, 46), some(47, 47)),
}


@pytest.fixture(params=[32 << 20, 1], ids=["one panel", "panels of 16 rows"])
def panel_bytes(request, monkeypatch):
    monkeypatch.setitem(pair_panels._PANEL_BYTES, "cpu", request.param)
    monkeypatch.setitem(pairs._CHUNK_PAIRS, "cpu", 1000 if request.param > 1 else 7)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("known", [False, True], ids=["", "known lse"])
@pytest.mark.parametrize("universe", UNIVERSES)
@pytest.mark.usefixtures("panel_bytes")
def test_gram_equals_the_definition(universe, known):
    q, k = pooled()
    query, key = UNIVERSES[universe]
    lse = reference.row_lse(q, k, scale=SCALE)
    sums = head_gram(q, k, scale=SCALE, query=query, key=key, lse_HN=lse.float() if known else None)
    gram_HH, sum_H = reference.head_gram(q, k, scale=SCALE, query=query, key=key)
    assert sums.gram_FHH.dtype == sums.sum_FH.dtype == torch.float64
    close(sums.gram_FHH, gram_HH[None])
    assert torch.equal(sums.gram_FHH, sums.gram_FHH.mT)
    close(sums.sum_FH, sum_H[None])
    assert sums.n_pairs_F.tolist() == [len(reference.universe(47, query, key)[0])]
    queried = torch.arange(47) if query is None else query
    torch.testing.assert_close(sums.lse_HN[:, queried].double(), lse[:, queried], rtol=1e-6, atol=1e-6)
    assert int(sums.lse_HN.isfinite().sum()) == 3 * len(queried)


@pytest.mark.parametrize("n_folds", [1, 3, 13])
@pytest.mark.parametrize("key", [None, some(47, 13)], ids=["all keys", "some keys"])
@pytest.mark.usefixtures("panel_bytes")
def test_folds_are_those_of_the_key(n_folds, key, monkeypatch):
    monkeypatch.setattr(pairs, "_DEPTH", 5)
    q, k = pooled()
    query = some(47, 21, seed=3)
    keys = torch.arange(47) if key is None else key
    fold = torch.randint(n_folds, (len(keys),), generator=torch.Generator().manual_seed(4))
    fold[-1] = n_folds  # and one fold more, perhaps after empty ones
    sums = head_gram(q, k, scale=SCALE, query=query, key=key, fold=fold)
    assert len(sums.n_pairs_F) == n_folds + 1
    for number in range(n_folds + 1):
        chosen = keys[fold == number]
        gram_HH, sum_H = reference.head_gram(q, k, scale=SCALE, query=query, key=chosen)
        close(sums.gram_FHH[number], gram_HH)
        close(sums.sum_FH[number], sum_H)
        assert int(sums.n_pairs_F[number]) == len(reference.universe(47, query, chosen)[0])


@pytest.mark.usefixtures("panel_bytes")
def test_gather_equals_the_definition():
    q, k = pooled()
    query_E, key_E = torch.randint(47, (2, 500), generator=torch.Generator().manual_seed(5))
    query_E[3:5], key_E[3:5] = 7, 7  # listed twice, and with itself
    expected = reference.gather_pairs(q, k, query_E, key_E, scale=SCALE)
    got = gather_pairs(q, k, query_E, key_E, scale=SCALE)
    assert got.dtype == torch.float32
    assert got.shape == (500, 3)
    torch.testing.assert_close(got.double(), expected, rtol=2e-5, atol=0)
    lse = reference.row_lse(q, k, scale=SCALE).float()
    close(gather_pairs(q, k, query_E, key_E, scale=SCALE, lse_HN=lse), got, rtol=1e-5)
    nothing = gather_pairs(q, k, query_E[:0], key_E[:0], scale=SCALE)
    assert nothing.shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("size", [0.1, 1.5, 30.0])
def test_errors_are_at_most_twice_those_of_pytorch(dtype, size):
    q, k = pooled(8, 90, 16, size=size).to(dtype)
    pair = reference.universe(90, None, None)
    exact_EH, plain_EH = reference.gather_pairs(q, k, *pair, scale=SCALE), torch.softmax(SCALE * q @ k.mT, -1)
    plain_EH = plain_EH[:, pair[0], pair[1]].T
    # four roundings of numbers as large as the log-sum-exp, which a softmax in one go does not form
    floor = 4 * 2**-24 * float(reference.row_lse(q, k, scale=SCALE).abs().max())
    got_EH = gather_pairs(q, k, *pair, scale=SCALE)
    assert (got_EH - exact_EH).abs().max() <= 2 * (plain_EH - exact_EH).abs().max() + floor * exact_EH.max()
    exact_HH = exact_EH.T @ exact_EH
    error_HH, plain_error_HH = (x - exact_HH for x in (head_gram(q, k, scale=SCALE).gram_FHH[0], plain_EH.T @ plain_EH))
    assert error_HH.abs().max() <= 2 * plain_error_HH.abs().max() + 2**-24 * exact_HH.max()


def test_log_sum_exp_of_the_gram_serves_the_pairs():
    q, k = pooled()
    query, key = some(47, 20), some(47, 13)
    lse = head_gram(q, k, scale=SCALE, query=query, key=key).lse_HN
    pair = query[:10], some(47, 10, seed=6)
    close(gather_pairs(q, k, *pair, scale=SCALE, lse_HN=lse), gather_pairs(q, k, *pair, scale=SCALE), rtol=1e-5)
    stranger = torch.tensor([gene for gene in range(47) if gene not in query.tolist()][:1])
    with pytest.raises(ValueError, match=rf"head 0 at query gene {int(stranger)} is nan"):
        gather_pairs(q, k, stranger, key[:1], scale=SCALE, lse_HN=lse)


def test_sums_of_many_terms_keep_their_digits(monkeypatch):
    depths = []
    product = pairs.products
    monkeypatch.setattr(pairs, "products", lambda a, b: depths.append(a.shape[1]) or product(a, b))
    q, k = pooled(4, 9_000, 8, size=0.1)
    query = torch.arange(7, 9_000, 500)
    x_HRC = torch.softmax(SCALE * q[:, query].double() @ k.double().mT, -1)
    x_HRC[:, range(18), query] = 0.0
    sums = head_gram(q, k, scale=SCALE, query=query)
    close(sums.gram_FHH[0], torch.einsum("hrc,grc->hg", x_HRC, x_HRC), rtol=5e-7)
    close(sums.sum_FH[0], x_HRC.sum((1, 2)), rtol=5e-7)
    assert sum(depths) == 18 * 9_000
    assert max(depths) == 4_096  # some libraries add the terms one by one: a deeper product of float32 is off by 1e-4


@pytest.mark.parametrize("n_genes", [9, 100])
def test_number_of_threads_changes_nothing(n_genes, threads, monkeypatch):
    monkeypatch.setitem(pair_panels._PANEL_BYTES, "cpu", 1)
    q, k = pooled(n_genes=n_genes, d_head=16)
    pair = some(n_genes, 9), some(n_genes, 9, seed=2)
    results = []
    for number in (1, 2, 5):
        threads(number)
        sums = head_gram(q, k, scale=SCALE, fold=torch.arange(n_genes) % 2)
        results.append((sums.gram_FHH, sums.sum_FH, sums.lse_HN, gather_pairs(q, k, *pair, scale=SCALE)))
    for more in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], more, strict=True))


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), n_genes=st.integers(2, 40), n_folds=st.integers(1, 4))
def test_permuting_genes_and_heads_permutes_the_sums(seed, n_genes, n_folds):
    q, k = pooled(n_genes=n_genes, seed=seed)
    heads, genes = some(3, 3, seed), some(n_genes, n_genes, seed)
    fold = torch.randint(n_folds, (n_genes,), generator=torch.Generator().manual_seed(seed))
    fold[0] = n_folds - 1
    sums = head_gram(q, k, scale=SCALE, fold=fold)
    moved = (x[heads][:, genes].contiguous() for x in (q, k))
    again = head_gram(*moved, scale=SCALE, fold=fold[genes])
    close(again.gram_FHH, sums.gram_FHH[:, heads][:, :, heads])
    close(again.sum_FH, sums.sum_FH[:, heads])
    assert torch.equal(again.n_pairs_F, sums.n_pairs_F)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 30), rows=st.integers(1, 40))
def test_universes_cut_in_two_add_up(seed, cut, rows):
    q, k = pooled(n_genes=30, seed=seed)
    query = some(30, 30, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pair_panels._PANEL_ROWS, "cpu", (1, rows))
        parts = [head_gram(q, k, scale=SCALE, query=part) for part in (query[:cut], query[cut:])]
    whole = head_gram(q, k, scale=SCALE)
    close(parts[0].gram_FHH + parts[1].gram_FHH, whole.gram_FHH)
    assert torch.equal(parts[0].n_pairs_F + parts[1].n_pairs_F, whole.n_pairs_F)


def test_all_attention_but_that_to_itself_is_counted():
    q, k = pooled()
    itself = reference.attention(q, k, scale=SCALE).diagonal(dim1=1, dim2=2).sum(-1)
    close(head_gram(q, k, scale=SCALE).sum_FH[0], 47 - itself)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_computed_as_float32(dtype):
    q, k = pooled().to(dtype)
    pair = some(47, 9), some(47, 9, seed=2)
    assert torch.equal(head_gram(q, k, scale=SCALE).gram_FHH, head_gram(q.float(), k.float(), scale=SCALE).gram_FHH)
    assert torch.equal(gather_pairs(q, k, *pair, scale=SCALE), gather_pairs(q.float(), k.float(), *pair, scale=SCALE))


@pytest.mark.parametrize("n_genes", [1, 2])
def test_one_and_two_genes(n_genes):
    q, k = pooled(n_genes=n_genes)
    sums = head_gram(q, k, scale=SCALE)
    assert sums.n_pairs_F.tolist() == [n_genes * (n_genes - 1)]
    close(sums.gram_FHH[0], reference.head_gram(q, k, scale=SCALE)[0])


def test_an_empty_universe():
    q, k = pooled()
    for universe in ({"query": some(47, 0)}, {"key": some(47, 0)}, {"query": some(47, 1), "key": some(47, 1)}):
        sums = head_gram(q, k, scale=SCALE, **universe)
        assert sums.n_pairs_F.tolist() == [0]
        assert not sums.gram_FHH.any()
        assert not sums.sum_FH.any()


@pytest.mark.parametrize("known", [False, True])
def test_huge_logits_stay_shares(known):
    q, k = pooled(d_head=16, size=1e4)
    lse = reference.row_lse(q, k, scale=SCALE).float() if known else None
    pair = torch.cartesian_prod(torch.arange(47), torch.arange(47)).T
    x = gather_pairs(q, k, *pair, scale=SCALE, lse_HN=lse)
    assert x.min() >= 0
    assert x.max() <= 1
    assert head_gram(q, k, scale=SCALE, lse_HN=lse).gram_FHH.isfinite().all()


def test_the_modes_of_the_caller():
    """Workers run apart from the caller's inference mode, and no gradient is recorded."""
    q, k = pooled()
    pair = some(47, 9), some(47, 9, seed=2)
    expected = head_gram(q, k, scale=SCALE).gram_FHH
    with torch.inference_mode():
        assert torch.equal(head_gram(q.clone(), k, scale=SCALE).gram_FHH, expected)
        gather_pairs(q.clone(), k, *pair, scale=SCALE)
    q.requires_grad_()
    assert torch.equal(head_gram(q, k, scale=SCALE).gram_FHH, expected)
    assert not gather_pairs(q, k, *pair, scale=SCALE).requires_grad


@pytest.mark.parametrize("known", [False, True])
def test_operations_are_well_registered(known):
    q, k = pooled()
    lse = reference.row_lse(q, k, scale=SCALE).float() if known else None
    genes, options = some(47, 9), {"lse_HN": lse, "scale": SCALE, "backend": "torch"}
    torch.library.opcheck(torch.ops.grnlab.gather_pairs.default, (q, k, genes, genes.flip(0)), options)
    sizes = {"size_F": torch.tensor([4, 0, 5])}
    torch.library.opcheck(torch.ops.grnlab.head_gram.default, (q, k, torch.arange(47), genes), sizes | options)


def test_bad_arguments():
    q, k = pooled()
    genes = some(47, 5)
    for call in (
        lambda *x, **y: gather_pairs(*x, genes, genes, scale=1.0, **y),
        lambda *x, **y: head_gram(*x, scale=1.0, **y),
    ):
        with pytest.raises(ValueError, match="must have the same shape"):
            call(q, k[:, :-1])
        with pytest.raises(TypeError, match="share one dtype"):
            call(q.double(), k.double())
        with pytest.raises(ValueError, match=r"call \.contiguous"):
            call(q.mT.contiguous().mT, k)
        with pytest.raises(RuntimeError, match=r'backend="triton" cannot run'):
            call(q, k, backend="triton")
        with pytest.raises(ValueError, match=r"lse_HN is \(\(2, 47\).*expected shape, dtype, device \(\(3, 47\)"):
            call(q, k, lse_HN=torch.zeros(2, 47))
        with pytest.raises(ValueError, match=r"head 1 at query gene \d+ is nan"):
            call(q.index_fill(0, torch.tensor(1), torch.nan), k)
        with pytest.raises(ValueError, match=r"log-sum-exp of head 0 at query gene .* is inf"):
            call(q, k, lse_HN=torch.full((3, 47), torch.inf))
    with pytest.raises(ValueError, match="query_E lists 5 genes and key_E 4"):
        gather_pairs(q, k, genes, genes[:4], scale=1.0)
    with pytest.raises(TypeError, match=r"key_E has dtype torch\.int32"):
        gather_pairs(q, k, genes, genes.int(), scale=1.0)
    with pytest.raises(ValueError, match="query_E holds gene numbers from"):
        gather_pairs(q, k, genes + 47, genes, scale=1.0)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"query": torch.tensor([4, 2, 4])}, ValueError, r"query lists gene 4 2 times; give each gene once"),
        ({"key": torch.tensor([[4, 2]])}, ValueError, r"key has shape \(1, 2\); expected a one-dimensional list"),
        ({"key": torch.tensor([47])}, ValueError, "key holds gene numbers from 47 to 47; expected 0 to 46"),
        ({"key": torch.tensor([1.0])}, TypeError, "key has dtype torch.float32"),
        ({"fold": torch.zeros(46, dtype=torch.int64)}, ValueError, r"fold has dtype .*shape \(46,\).* of 47 key genes"),
        ({"fold": torch.zeros(47)}, ValueError, "fold has dtype torch.float32"),
        ({"fold": torch.full((47,), -1)}, ValueError, "at least 0"),
    ],
)
def test_bad_universe(options, error, match):
    with pytest.raises(error, match=match):
        head_gram(*pooled(), scale=1.0, **options)

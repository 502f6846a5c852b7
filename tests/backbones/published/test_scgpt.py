"""scGPT against the publisher's model and binning, by the fixture of make_scgpt.py."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

import grnlab as gl
from grnlab.backbones.published.scgpt import ScGpt, ScGptConfig, bin_counts

LAYOUTS = {"torch": "in_proj_", "flash": "Wqkv.", "wrapper": "_impl.Wqkv."}


@pytest.fixture
def make_folder(fixtures, tmp_path):
    """Folder in the publisher's layout: best_model.pt with the keys of one of its builds."""

    def make(layout="torch", change=None, **args):
        folder = shutil.copytree(fixtures / "scgpt", tmp_path / f"scgpt{len(list(tmp_path.iterdir()))}")
        weights = load_file(folder / "best_model.safetensors")
        weights = {name.replace("in_proj_", LAYOUTS[layout]): value for name, value in weights.items()}
        if change is not None:
            change(weights)
        torch.save(weights, folder / "best_model.pt")
        (folder / "best_model.safetensors").unlink()
        if args:
            (folder / "args.json").write_text(json.dumps(json.loads((folder / "args.json").read_text()) | args))
        return folder

    return make


@pytest.fixture
def model(make_folder):
    return gl.load_model(make_folder())


@pytest.fixture
def expected(fixtures):
    return load_file(fixtures / "scgpt/expected.safetensors")


def test_bins_equal_the_publishers(model, expected, real_cells):
    """Given the same draws, for the genes in the order the publisher had them."""
    content = [name for name in real_cells.var_names if name in model.vocab.by_symbol]
    counts = real_cells[:, content].X.toarray()
    for row, draws, theirs in zip(counts, expected["draws"].numpy(), expected["binned"].numpy(), strict=True):
        rng = SimpleNamespace(random=lambda n, row=row, draws=draws: draws[row > 0][:n])
        np.testing.assert_array_equal(bin_counts(row, 51, rng), theirs)
        rng = SimpleNamespace(random=lambda n, row=row, draws=draws: draws[row > 0][:n])
        np.testing.assert_array_equal(bin_counts(np.log1p(1e4 * row / row.sum()), 51, rng), theirs)


def test_tokens_are_the_expressed_genes_with_their_bins(model, real_cells, shown):
    counts, tokens, totals = shown(model, real_cells)
    got = model.tokenize(counts, tokens, totals, context="expressed")
    n_expressed = (counts.toarray() > 0).sum(1)
    assert got.genes_BT.shape[1] == 53  # 54 with <cls>
    assert (n_expressed > 53).any()
    np.testing.assert_array_equal(got.real_BT.sum(1), np.minimum(n_expressed, 53))
    for cell in range(12):
        row = counts[cell].toarray()[0]
        genes, bins = got.genes_BT[cell, got.real_BT[cell]].tolist(), got.values_BT[cell, got.real_BT[cell]].numpy()
        assert set(genes) <= set(tokens[row > 0].tolist())
        assert genes == sorted(set(genes))
        count = np.array([row[tokens.tolist().index(gene)] for gene in genes])
        edges = np.quantile(row[row > 0], np.linspace(0, 1, 50))
        assert (bins <= np.digitize(count, edges)).all()
        assert (bins >= np.digitize(count, edges, right=True).clip(1)).all()
    again = model.tokenize(counts[::-1].tocsr(), tokens, totals[::-1].copy(), context="expressed")
    order = again.genes_BT.flip(0), again.values_BT.flip(0)
    torch.testing.assert_close(order[0] * again.real_BT.flip(0), got.genes_BT * got.real_BT)
    torch.testing.assert_close(order[1], got.values_BT)


def test_shared_tokens_show_zeros(model, real_cells, shown):
    counts, tokens, totals = shown(model, real_cells)
    got = model.tokenize(counts, tokens, totals, context="shared")
    assert got.pad_BT is None
    np.testing.assert_array_equal(got.genes_BT, np.tile(tokens, (12, 1)))
    np.testing.assert_array_equal(got.values_BT == 0, counts.toarray() == 0)
    order = np.random.default_rng(0).permutation(len(tokens))
    permuted = model.tokenize(counts[:, order].tocsr(), tokens[order], totals, context="shared")
    torch.testing.assert_close(permuted.values_BT, got.values_BT[:, order])


@given(counts=st.lists(st.integers(0, 6), min_size=1, max_size=60), n_bins=st.integers(3, 60), seed=st.integers(0, 9))
def test_bins_rise_with_counts(counts, n_bins, seed):
    values = np.array(counts, dtype=np.float32)
    bins = bin_counts(values, n_bins, np.random.default_rng(seed))
    assert ((bins == 0) == (values == 0)).all()
    assert bins.max(initial=0) < n_bins
    for value in set(counts):  # equal counts may spread over bins, never past those of larger ones
        larger = bins[values > value]
        assert not len(larger) or bins[values == value].max() <= larger.min()


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_hidden_states_and_attention_equal_the_publishers(
    make_folder, expected, recorded, softmax_map, layout, fixtures
):
    model = gl.load_model(make_folder(layout))
    ids = json.loads((fixtures / "scgpt/vocab.json").read_text())
    gene_of = {number: gene for gene, number in ids.items()}
    pad = expected["tokens"] == ids["<pad>"]
    assert pad.any()
    genes = torch.tensor(
        [[model.vocab.by_symbol.get(gene_of[token], 0) for token in row[1:].tolist()] for row in expected["tokens"]]
    )
    tokens = gl.data.CellTokens(genes, expected["values"][:, 1:].float(), torch.zeros(2), pad[:, 1:])
    encoded, layers = recorded(model, tokens)
    torch.testing.assert_close(encoded.cell_BM, expected["hidden"][:, 0], rtol=0, atol=1e-5)
    real = ~pad[:, 1:]
    torch.testing.assert_close(encoded.genes_BTM[real], expected["hidden"][:, 1:][real], rtol=0, atol=1e-5)
    for layer in layers:
        attention = softmax_map(layer, model.attention, tokens.pad_BT)
        rebuilt = torch.einsum("bhts,bshd->bthd", attention, layer.v.double()).float()
        torch.testing.assert_close(rebuilt[~pad], layer.out[~pad], rtol=0, atol=1e-5)
    attention = softmax_map(layers[0], model.attention, tokens.pad_BT)[0, 1, :8].float()
    torch.testing.assert_close(attention, expected["attention"], rtol=0, atol=1e-5)


def test_older_symbols_are_found_by_the_name_of_today(model):
    token = model.vocab.by_symbol["MARCH1"]
    assert model.vocab.token("MARCHF1") == model.vocab.token("ENSG00000145416") == token


@pytest.mark.parametrize("missing", ["in_proj_bias", "out_proj.weight", "in_proj_weight"])
def test_every_key_of_the_attention_must_be_there(make_folder, missing):
    name = f"transformer_encoder.layers.1.self_attn.{missing}"
    with pytest.raises(ValueError, match=rf"lacks the weights '{name}'"):
        gl.load_model(make_folder(change=lambda weights: weights.pop(name)))


@pytest.mark.parametrize("name", ["bn.weight", "dsbn.bns.0.running_mean", "transformer_encoder.layers.2.norm1.bias"])
def test_what_would_change_the_attention_is_not_left_out(make_folder, name):
    with pytest.raises(ValueError, match=r"1 weights that this architecture does not have"):
        gl.load_model(make_folder(change=lambda weights: weights.update({name: torch.ones(3)})))


def test_what_pretraining_left_behind_is_not_needed(make_folder, model):
    path = make_folder(change=lambda weights: weights.update({"flag_encoder.weight": torch.ones(2, 8)}))
    loaded = gl.load_model(path)
    assert all(torch.equal(x, loaded.state_dict()[name]) for name, x in model.state_dict().items())


@pytest.mark.parametrize("args", [{"input_emb_style": "category"}, {"pre_norm": True}])
def test_variants_that_are_not_built_are_refused(make_folder, args):
    [(name, value)] = args.items()
    with pytest.raises(ValueError, match=rf"args\.json has {name}={value!r}; only"):
        gl.load_model(make_folder(**args))


@pytest.mark.parametrize("name", ["args.json", "vocab.json", "best_model.pt"])
def test_missing_files_are_named(make_folder, name):
    folder = make_folder()
    (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"lacks {name}; .*https://github\.com/bowang-lab/scGPT"):
        gl.load_model(folder)


@pytest.mark.parametrize(
    "args", [{"nlayers": "x"}, {"nheads": 0}, {"embsize": -1}, {"d_hid": None}, {"embsize": [1]}, {"pad_value": []}]
)
def test_sizes_of_the_wrong_kind_are_an_error(make_folder, args):
    folder = make_folder(**args)
    with pytest.raises(ValueError, match=folder.name):
        gl.load_model(folder)


@pytest.mark.parametrize("number", [0, -1, "1", None, [1]])
def test_genes_have_a_number_each(make_folder, number):
    folder = make_folder()
    ids = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(ids | dict.fromkeys(list(ids)[:2], number)))
    with pytest.raises(ValueError, match=folder.name):
        gl.load_model(folder)


def test_weights_that_are_no_numbers(make_folder):
    with pytest.raises(ValueError, match=r"'encoder\.embedding\.weight' .* NaN or infinite"):
        gl.load_model(make_folder(change=lambda weights: weights["encoder.embedding.weight"].fill_(np.nan)))


@pytest.mark.parametrize("content", [[1], torch.ones(2)])
def test_a_file_of_weights_without_names(make_folder, content):
    folder = make_folder()
    torch.save(content, folder / "best_model.pt")
    with pytest.raises(ValueError, match="not a whole model of scgpt"):
        gl.load_model(folder)


def test_damaged_files(make_folder):
    folder = make_folder()
    vocab = (folder / "vocab.json").read_text()
    (folder / "vocab.json").write_text(vocab.replace("<cls>", "<start>"))
    with pytest.raises(ValueError, match=r"no token '<cls>'"):
        gl.load_model(folder)
    (folder / "vocab.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"vocab\.json holds a list; expected a dictionary"):
        gl.load_model(folder)
    (folder / "vocab.json").write_text(vocab.replace("}", ', "EXTRA": 900}'))
    with pytest.raises(ValueError, match=r"names token 900, but the weights have 64"):
        gl.load_model(folder)
    (folder / "vocab.json").write_text(vocab)
    (folder / "args.json").write_text('{"embsize": 16}')
    with pytest.raises(ValueError, match=r"args\.json lacks \['nheads', 'nlayers', 'd_hid'\]"):
        gl.load_model(folder)
    (folder / "args.json").write_text('{"embsize": 16,')
    with pytest.raises(ValueError, match=r"args\.json is no dictionary"):
        gl.load_model(folder)
    shutil.copy(folder / "vocab.json", folder / "best_model.pt")
    (folder / "args.json").write_text(json.dumps({"embsize": 8, "nheads": 2, "nlayers": 2, "d_hid": 12}))
    with pytest.raises(ValueError, match=r"best_model\.pt is (a pickle|not a complete file)"):
        gl.load_model(folder)


def test_a_new_model_has_the_sizes_asked_for(tiny_vocab):
    assert ScGpt(tiny_vocab, ScGptConfig(n_layers=1, d_model=8, n_heads=2)).attention.d_head == 4

"""Geneformer against transformers' BERT and the publisher's tokeniser, by the fixtures of make_geneformer.py."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import grnlab as gl
from grnlab.backbones.published.geneformer import Geneformer

NAMES = ["geneformer_v1", "geneformer_v2"]


@pytest.fixture(params=NAMES)
def folder(request, fixtures, tmp_path):
    return shutil.copytree(fixtures / request.param, tmp_path / request.param)


def publishers(folder):
    """Expected tensors, and the publisher's token → gene."""
    expected = load_file(folder / "expected.safetensors")
    ids = json.loads((folder / "token_dictionary.json").read_text())
    return expected, {number: gene for gene, number in ids.items()}


def test_tokens_equal_the_publishers(folder, real_cells, shown):
    model = gl.load_model(folder)
    expected, gene_of = publishers(folder)
    medians = json.loads((folder / "gene_median_dictionary.json").read_text())
    counts, tokens, totals = shown(model, real_cells)
    got = model.tokenize(counts, tokens, totals, context="expressed")
    ids = model.vocab.table["ensembl_id"]
    column = {gene: number for number, gene in enumerate(real_cells.var["ensembl_id"])}
    n_ranked = expected["mask"].sum(1).numpy() - model.n_prefix
    assert (n_ranked < (counts.toarray() > 0).sum(1)).any()  # some cells are cut
    assert len(set(n_ranked.tolist())) > 1  # and some are padded
    for cell, n in enumerate(n_ranked.tolist()):
        real = got.real_BT[cell]
        mine = [ids[token] for token in got.genes_BT[cell, real].tolist()]
        whole = [gene_of[token] for token in expected["tokens"][cell, expected["mask"][cell]].tolist()]
        theirs = whole[1:-1] if model.n_prefix else whole
        assert whole[:: len(whole) - 1] == ["<cls>", "<eos>"] if model.n_prefix else "<cls>" not in whole
        assert len(mine) == len(theirs) == n
        # genes of one value stand in any order at the publisher's, here in that of the vocabulary
        value = [real_cells.X[cell, column[gene]] / medians[gene] for gene in mine]
        np.testing.assert_allclose(value, [real_cells.X[cell, column[gene]] / medians[gene] for gene in theirs])
        tied = np.isclose(np.diff(value), 0)
        free = np.r_[tied, False] | np.r_[False, tied]
        assert [g for g, f in zip(mine, free, strict=True) if not f] == [
            g for g, f in zip(theirs, free, strict=True) if not f
        ]
        assert sum(~free) > 30


@torch.no_grad()
def test_hidden_states_and_attention_equal_the_publishers(folder, real_cells, shown, recorded, softmax_map):
    model = gl.load_model(folder)
    expected, gene_of = publishers(folder)
    token_of = {gene: token for token, gene in enumerate(model.vocab.table["ensembl_id"])}
    p, chosen = model.n_prefix, [0, 2]
    cells, width = len(chosen), int(expected["mask"][chosen].sum(1).max()) - p
    genes, pad = torch.zeros(cells, width, dtype=torch.int64), torch.ones(cells, width, dtype=torch.bool)
    for cell, number in enumerate(chosen):  # the publisher's own order of ties
        row = [gene_of[token] for token in expected["tokens"][number, expected["mask"][number]].tolist()]
        row = row[1:-1] if p else row
        genes[cell, : len(row)] = torch.tensor([token_of[gene] for gene in row])
        pad[cell, : len(row)] = False
    tokens = gl.data.CellTokens(genes, torch.zeros(cells, width), torch.zeros(cells), pad if pad.any() else None)
    encoded, layers = recorded(model, tokens)
    for cell in range(cells):
        n = int((~pad[cell]).sum())
        theirs = expected["hidden"][cell]
        torch.testing.assert_close(encoded.genes_BTM[cell, :n], theirs[p // 2 : n + p // 2], rtol=0, atol=1e-5)
        whole_cell = theirs[0] if p else theirs[:n].mean(0)
        torch.testing.assert_close(encoded.cell_BM[cell], whole_cell, rtol=0, atol=1e-5)
    n = int((~pad[0]).sum())
    place = [0, *range(2, n + 2), 1] if p else list(range(n))  # the publisher has <eos> last
    for number, layer in enumerate(layers):
        attention = softmax_map(layer, model.attention, tokens.pad_BT)
        rebuilt = torch.einsum("bhts,bshd->bthd", attention, layer.v.double())
        torch.testing.assert_close(rebuilt.float()[0, : n + p], layer.out[0, : n + p], rtol=0, atol=1e-5)
        ours = attention[0, 1].float()[place[:8]][:, place]
        torch.testing.assert_close(ours, expected["attention"][number, :, : n + p], rtol=0, atol=1e-5)


def test_loads_the_publishers_pickles_and_old_weights(folder, monkeypatch):
    safe = gl.load_model(folder)
    for stem in ("token_dictionary", "gene_median_dictionary"):
        content = json.loads((folder / f"{stem}.json").read_text())
        if stem.startswith("gene"):
            content = {gene: np.float64(value) for gene, value in content.items()}
        (folder / f"{stem}_gc30M.pkl").write_bytes(pickle.dumps(content))
        (folder / f"{stem}.json").unlink()
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    old = gl.load_model(folder)
    assert all(torch.equal(x, old.state_dict()[name]) for name, x in safe.state_dict().items())


def test_dictionaries_are_found_where_the_repository_has_them(fixtures, tmp_path):
    """One of each release; that of the size of the model is taken."""
    for name, where in zip(NAMES, ("geneformer/gene_dictionaries_30m", "geneformer"), strict=True):
        folder = shutil.copytree(fixtures / name, tmp_path / name)
        (tmp_path / where).mkdir(parents=True, exist_ok=True)
        for stem in ("token_dictionary", "gene_median_dictionary"):
            shutil.move(folder / f"{stem}.json", tmp_path / where / f"{stem}_{name}.json")
    for name in NAMES:
        assert gl.load_model(tmp_path / name).n_prefix == (2 if name.endswith("v2") else 0)
    shutil.move(tmp_path / "geneformer", tmp_path / NAMES[0] / "geneformer")  # a model at the root of the repository
    assert gl.load_model(tmp_path / NAMES[0]).n_prefix == 0


def test_other_names_of_the_publisher_find_their_gene(folder):
    plain = gl.load_model(folder).vocab
    ids = plain.table["ensembl_id"]
    other = {"ENSG00000000042": ids[5], "A NAME": ids[7], ids[3]: ids[3], "OF NOBODY": "ENSG00000000001"}
    (folder / "ensembl_mapping_dict_gc104M.pkl").write_bytes(pickle.dumps(other))
    vocab = gl.load_model(folder).vocab
    assert [vocab.token(name) for name in ("ENSG00000000042", "A NAME", ids[3], "OF NOBODY")] == [5, 7, 3, None]
    assert plain.token("ENSG00000000042") is None
    assert vocab.table.drop(columns="aliases").equals(plain.table.drop(columns="aliases"))


def test_shared_context_is_refused(fixtures, real_cells, shown):
    model = gl.load_model(fixtures / NAMES[0])
    with pytest.raises(ValueError, match='ranks the genes a cell expresses; use context="expressed"'):
        model.tokenize(*shown(model, real_cells), context="shared")


def rewrite(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def test_every_key_of_the_attention_must_be_there_and_no_other(folder):
    rewrite(folder, lambda w: w.pop("bert.encoder.layer.1.attention.self.key.bias"))
    with pytest.raises(ValueError, match=r"lacks the weights 'bert\.encoder\.layer\.1\.attention\.self\.key\.bias'"):
        gl.load_model(folder)


def test_unknown_weights_are_an_error(folder):
    rewrite(
        folder, lambda w: w.update({"bert.encoder.layer.1.attention.self.distance_embedding.weight": torch.ones(2)})
    )
    with pytest.raises(ValueError, match=r"1 weights that this architecture does not have.*distance_embedding"):
        gl.load_model(folder)


def test_weights_of_another_shape_are_an_error(folder):
    rewrite(folder, lambda w: w.update({"bert.encoder.layer.0.output.dense.bias": torch.ones(3)}))
    with pytest.raises(ValueError, match="do not fit its configuration"):
        gl.load_model(folder)


def test_the_dictionaries_of_another_release_are_refused(fixtures, tmp_path):
    folder = shutil.copytree(fixtures / NAMES[0], tmp_path / "mixed")
    shutil.copy(fixtures / NAMES[1] / "token_dictionary.json", folder / "token_dictionary.json")
    with pytest.raises(ValueError, match=r"lacks the dictionary of the model's 65 tokens.*'token_dictionary.json': 67"):
        gl.load_model(folder)
    (folder / "token_dictionary.json").unlink()
    with pytest.raises(ValueError, match=r"found none.*https://huggingface\.co/ctheodoris/Geneformer"):
        gl.load_model(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"holds no weights; expected model\.safetensors or pytorch_model\.bin"):
        gl.load_model(folder)


def test_medians_must_be_there(folder):
    (folder / "gene_median_dictionary.json").unlink()
    with pytest.raises(ValueError, match="must hold one gene_median_dictionary"):
        gl.load_model(folder)


def test_a_new_model_has_random_weights_and_the_defaults(tiny_vocab):
    assert Geneformer(tiny_vocab).config.d_model == 256

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from grnlab.backbones import load_model
from grnlab.data import QualityRules
from grnlab.training import PretrainConfig, builtin_recipes, read_recipe

RECIPE = """
name: mine
model: {n_layers: 1, d_model: 16, n_heads: 2}
data:
  files: ["*.h5ad"]
  exclude: ["left*"]
  labels: {cell_type: cell_type, sex: {column: sex}}
  rules: {min_genes: 5}
training: {n_tokens: 32, batch_size: 4, objectives: [mask, classify]}
"""


@pytest.fixture(scope="module")
def vocab():
    return load_model("grnlab-small").vocab


def cells(path, vocab, *, n=30, types=("B cell", "T cell"), seed=0, **obs):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"cell_type": rng.choice(list(types), n), **obs}, index=[f"c{i}" for i in range(n)])
    counts = sp.csr_matrix(rng.poisson(1.0, (n, 40)).astype(np.float32))
    ad.AnnData(counts, obs=table, var=pd.DataFrame(index=list(vocab.symbols[:40]))).write_h5ad(path)


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return path


@pytest.mark.parametrize("name", ["laptop", "grnlab-small", "scprint-small", "scprint-medium", "scprint-large"])
def test_recipes_that_come_along_are_whole(name):
    recipe = read_recipe(name)
    assert recipe.name == name
    assert name in builtin_recipes()
    assert recipe.training.objectives
    assert recipe.data.labels


def test_sizes_of_the_paper():
    sizes = [(read_recipe(f"scprint-{size}").model) for size in ("small", "medium", "large")]
    assert [(s["n_layers"], s["d_model"], s["n_heads"]) for s in sizes] == [(4, 128, 2), (8, 256, 4), (16, 512, 8)]


def test_no_evaluation_set_is_trained_on():
    files = " ".join(read_recipe("grnlab-small").data.files)
    assert "*" not in files
    for kept_out in ("pbmc3k", "kang2018", "zheng68k", "yan2013", "mccalla", "beeline", "read_depth", "lamanno"):
        assert kept_out not in files


def test_sections_become_configs(recipe_file):
    recipe = read_recipe(recipe_file, seed=3, max_minutes=None)
    assert recipe.training == PretrainConfig(n_tokens=32, batch_size=4, objectives=("mask", "classify"), seed=3)
    assert recipe.data.rules == QualityRules(min_genes=5)
    assert recipe.data.labels["sex"].column == "sex"


def test_one_name_stands_for_a_list_of_one(recipe_file):
    recipe_file.write_text(RECIPE.replace('["*.h5ad"]', "a*.h5ad").replace('["left*"]', "left*") + "\n")
    data = read_recipe(recipe_file).data
    assert (data.files, data.exclude) == (("a*.h5ad",), ("left*",))


def test_cells_and_classes(tmp_path, recipe_file, vocab):
    cells(tmp_path / "a.h5ad", vocab, sex="female")
    cells(tmp_path / "b.h5ad", vocab, n=20, types=("B cell", "NK cell"), seed=1)
    cells(tmp_path / "left_out.h5ad", vocab)
    recipe = read_recipe(recipe_file)
    found = recipe.cells(tmp_path, vocab)
    assert found.names == ["a", "b"]
    config = recipe.model_config(found, tmp_path)
    assert config.n_layers == 1
    # one sex alone is nothing to tell
    assert config.classes == {"cell_type": ("B cell", "NK cell", "T cell")}


def test_labels_at_several_levels(tmp_path, recipe_file, vocab):
    (tmp_path / "types.csv").write_text("child,parent\nB cell,A lymphocyte\nT cell,A lymphocyte\n")
    recipe_file.write_text(
        RECIPE.replace("cell_type: cell_type", "cell_type: {column: cell_type, ontology: types.csv}")
    )
    cells(tmp_path / "a.h5ad", vocab, types=("B cell", "T cell", "A lymphocyte"))
    recipe = read_recipe(recipe_file)
    found = recipe.cells(tmp_path, vocab)
    config = recipe.model_config(found, tmp_path)
    assert config.classes["cell_type"] == ("B cell", "T cell")
    assert config.groups["cell_type"] == {"A lymphocyte": ("B cell", "T cell")}
    # codes of the cells follow the order of the labels: leaves, then coarse
    names = np.array(config.labels("cell_type"))
    written = ad.read_h5ad(tmp_path / "a.h5ad").obs["cell_type"].astype(str)
    kept = found.labels["cell_type"]
    np.testing.assert_array_equal(names[kept], written)


def levels(tmp_path, types, vocab, *, architecture="scprint"):
    """Configuration of a model of cells whose types stand at two levels."""
    (tmp_path / "types.csv").write_text("child,parent\nB cell,A lymphocyte\nT cell,A lymphocyte\n")
    text = RECIPE.replace("cell_type: cell_type", "cell_type: {column: cell_type, ontology: types.csv}")
    (tmp_path / "mine.yaml").write_text(text + f"architecture: {architecture}\n")
    cells(tmp_path / "a.h5ad", vocab, types=types)
    recipe = read_recipe(tmp_path / "mine.yaml")
    return recipe.model_config(recipe.cells(tmp_path, vocab), tmp_path)


def test_one_leaf_is_no_class(tmp_path, vocab):
    config = levels(tmp_path, ("B cell", "A lymphocyte"), vocab)
    assert (config.classes, config.groups) == ({}, {})


def test_levels_need_an_architecture_that_tells_them(tmp_path, vocab):
    assert levels(tmp_path, ("B cell", "T cell"), vocab, architecture="celllm").classes["cell_type"]
    with pytest.raises(ValueError, match=r"architecture='celllm' tells labels of one level, but \['cell_type'\]"):
        levels(tmp_path, ("B cell", "T cell", "A lymphocyte"), vocab, architecture="celllm")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("n_tokens: 32", "n_token: 32", "training has an unknown key 'n_token'; did you mean 'n_tokens'"),
        ("min_genes: 5", "min_gene: 5", "data.rules has an unknown key 'min_gene'"),
        ("n_layers: 1", "layers: 1", "model has an unknown key 'layers'"),
        ("n_layers: 1", "classes: {}", "made of data.labels"),
        ("{column: sex}", "{name: sex}", "data.labels.sex has an unknown key 'name'"),
        ("batch_size: 4", "batch_size: 0", "batch_size=0 must be above 0"),
        ("name: mine", "- mine", "is not YAML"),
        ("model: {n_layers: 1, d_model: 16, n_heads: 2}", "model: tiny", "model must hold keys with values"),
    ],
)
def test_mistakes_are_named(recipe_file, before, after, message):
    recipe_file.write_text(RECIPE.replace(before, after))
    with pytest.raises(ValueError, match=message) as error:
        read_recipe(recipe_file)
    assert "mine.yaml" in str(error.value)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"neither a recipe .*laptop.* nor a YAML file"):
        read_recipe("desktop")


def test_folders_without_cells(tmp_path, recipe_file, vocab):
    recipe = read_recipe(recipe_file)
    with pytest.raises(ValueError, match="holds no file that matches"):
        recipe.cells(tmp_path, vocab)
    with pytest.raises(ValueError, match="is no folder"):
        recipe.cells(tmp_path / "nowhere", vocab)
    recipe_file.write_text(RECIPE.replace('["*.h5ad"]', "[atlas.h5ad]"))
    with pytest.raises(ValueError, match=r"atlas\.h5ad is not there"):
        read_recipe(recipe_file).cells(tmp_path, vocab)

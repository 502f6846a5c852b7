"""A BERT of perturbation signatures with a sequence decoder (Tan, Wang & Zhang 2023: BERT + LSTM on LINCS).

Here the genes are the tokens, so that attention can be read; the released code of the paper makes one token of a whole
profile. A token is the sum of a gene embedding, an embedding of its signed change, and, where the conditions are given,
those of drug, cell and dose. One token stands before the genes: the signature as a whole.

Shape suffixes: B signatures of a batch, T gene tokens, M model dimension, F features of a drug.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grnlab.backbones.base import AttentionSpec, Encoded
from grnlab.backbones.drugbert_config import DrugBertConfig
from grnlab.backbones.module import BackboneModule, behind_prefix, start_branches_small, start_linears
from grnlab.backbones.registry import register_architecture
from grnlab.data.drug_features import check_features
from grnlab.data.signature_collection import SignatureTokens
from grnlab.data.tokens import CellTokens
from grnlab.genes import GeneVocab
from grnlab.nn import Recorder, TransformerStack, ValueEncoder
from grnlab.nn.attention import head_projections
from grnlab.nn.sequence_decoder import SequenceDecoder


class DrugBert(BackboneModule):
    """Signatures as gene tokens through a pre-norm transformer with softmax attention.

    Parameters
    ----------
    vocab
        The panel of genes.
    config
        Sizes and conditions.
    name
        What results call the model.

    Attributes
    ----------
    reads
        ``"signatures"``: what it reads has a sign and is no count, see :mod:`grnlab.data.signatures`.
    condition
        The condition under which signatures are read, see :meth:`conditioned`.

    Examples
    --------
    >>> vocab = GeneVocab(pd.DataFrame({"symbol": ["A", "B"], "ensembl_id": "", "aliases": "", "position": [0, 1],
    ...     "species": "none", "is_tf": False}))
    >>> model = DrugBert(vocab, DrugBertConfig(n_layers=1, d_model=8, n_heads=2))
    >>> tokens = CellTokens(torch.tensor([[0, 1]]), torch.tensor([[-1.5, 0.2]]), torch.tensor([0.0]))
    >>> encoded = model.encode(tokens)
    >>> model.decode_values(encoded, tokens).shape
    torch.Size([1, 2])
    """

    reads = "signatures"

    def __init__(self, vocab: GeneVocab, config: DrugBertConfig | None = None, *, name: str = "drugbert") -> None:
        config = config or DrugBertConfig()
        super().__init__(vocab, config, name=name)
        self.condition: dict[str, Any] = {}
        d_model = config.d_model
        self.gene_embedding = nn.Embedding(len(vocab), d_model)
        self.gene_level = nn.Embedding(len(vocab), 1)  # what most signatures share, which the rest need not learn
        self.value_encoder = ValueEncoder(d_model, scale="asinh")
        self.signature = nn.Parameter(torch.zeros(d_model))
        self.drug_encoder = _mlp(len(config.features), d_model, config) if config.features else None
        rank = config.additive_rank
        self.additive = nn.Linear(len(config.features), rank, bias=False) if rank else None
        self.gene_response = nn.Embedding(len(vocab), rank) if rank else None
        self.cell_encoder = nn.Embedding(len(config.cells), d_model) if config.cells else None  # MLP of a one-hot code
        self.dose_encoder = _mlp(1, d_model, replace(config, feature_dropout=0.0)) if config.dose else None
        self.transformer = TransformerStack(config.n_layers, d_model, config.n_heads, dropout=config.dropout)
        self.decoder = SequenceDecoder(d_model, kind=config.decoder, d_hidden=config.d_decoder)
        sizes = {"cell": len(config.cells), "drug": len(config.drugs), "dose": int(config.dose)}
        self.tellers = nn.ModuleDict({task: nn.Linear(d_model, size) for task, size in sizes.items() if size})
        self._initialise()

    def _initialise(self) -> None:
        start_linears(self)
        nn.init.zeros_(self.gene_level.weight)
        if self.gene_response is not None:
            nn.init.zeros_(self.gene_response.weight)
        nn.init.normal_(cast("nn.Linear", self.value_encoder.mlp[0]).bias, std=1.0)  # see ScPrint: or blind to values
        for vectors in (self.gene_embedding.weight, self.signature, self.value_encoder.hidden):
            nn.init.normal_(vectors, std=1.0)
        start_branches_small(self.transformer.layers, self.config.n_layers)

    @property
    def attention(self) -> AttentionSpec:
        """Sizes and scale of the attention."""
        return AttentionSpec.softmax(self.config.n_layers, self.config.d_model, self.config.n_heads, n_prefix=1)

    def output_projections(self) -> list[Tensor]:
        """What turns the values of each head into what it adds to a token, per layer: shape (H, M, d_head)."""
        return head_projections(self.transformer.layers)

    def conditioned(
        self, *, drug: pd.Series | Mapping[str, float] | None = None, cell: str | None = None, dose: float | None = None
    ) -> "DrugBert":
        """The same model, the weights shared, that reads every signature under one condition.

        Parameters
        ----------
        drug
            Features of the drug by name, for example a row of the feature table; the drug need not be a known one.
        cell
            A cell line of ``config.cells``.
        dose
            Above 0, in the unit of the training data.

        Raises
        ------
        ValueError
            When nothing is given, the model was not made for what is given, a feature is missing, the cell unknown or
            the dose not above 0.

        Examples
        --------
        >>> vocab = GeneVocab(pd.DataFrame({"symbol": ["A"], "ensembl_id": "", "aliases": "", "position": [0],
        ...     "species": "none", "is_tf": False}))
        >>> model = DrugBert(vocab, DrugBertConfig(n_layers=1, d_model=8, n_heads=2, cells=("A375", "MCF7"), dose=True))
        >>> model.conditioned(cell="MCF7", dose=10.0).name
        'drugbert (cell MCF7, dose 10)'
        """
        condition: dict[str, Any] = {}
        if drug is not None:
            condition["drug"] = self.drug_features(pd.DataFrame([dict(drug)], index=[getattr(drug, "name", "drug")]))[0]
        if cell is not None:
            condition["cell"] = self.cell_code(cell)
        if dose is not None:
            self._needs(self.config.dose, "dose")
            if not 0 < dose < math.inf:
                msg = f"dose={dose} must be above 0 and finite; leave it out for an unknown dose."
                raise ValueError(msg)
            condition["log_dose"] = math.log10(dose)
        if not condition:
            msg = "name a condition: drug, cell or dose."
            raise ValueError(msg)
        said = {"drug": getattr(drug, "name", "given") if drug is not None else None, "cell": cell}
        said["dose"] = None if dose is None else f"{dose:g}"
        view = copy.copy(self)
        view.condition = condition
        view.name = f"{self.name} ({', '.join(f'{what} {x}' for what, x in said.items() if x is not None)})"
        return view

    def drug_features(self, features: pd.DataFrame) -> Tensor:
        """Features of drugs in the order the model reads them, shape (n_drugs, F).

        Raises
        ------
        ValueError
            When the model was made without drug features, or `features` lacks some of them.
        """
        self._needs(bool(self.config.features), "drug")
        if missing := [name for name in self.config.features if name not in features.columns]:
            msg = (
                f"features lacks {len(missing)} of the {len(self.config.features)} features of {self.name}, the first "
                f"{missing[:3]}; make the table as it was made for training."
            )
            raise ValueError(msg)
        table = check_features(features[list(self.config.features)], repeats=True)
        return torch.from_numpy(table.to_numpy(np.float32, copy=True))

    def cell_code(self, cell: str) -> int:
        """Code of a cell line.

        Raises
        ------
        ValueError
            When the model does not know it.
        """
        self._needs(bool(self.config.cells), "cell")
        if cell not in self.config.cells:
            msg = f"cell={cell!r} is unknown to {self.name}; it knows {list(self.config.cells[:20])}."
            raise ValueError(msg)
        return self.config.cells.index(cell)

    def _needs(self, has: bool, what: str) -> None:
        if not has:
            msg = f"{self.name} was made without {what} as a condition; leave {what} out, or train it with one."
            raise ValueError(msg)

    def tokenize(self, counts: sp.csr_matrix, tokens: np.ndarray, totals: np.ndarray, *, context: str) -> CellTokens:
        """Genes and their changes, under the condition of the model; see :func:`grnlab.data.tokens.tokenize`."""
        return self.under_condition(super().tokenize(counts, tokens, totals, context=context))

    def under_condition(self, tokens: CellTokens) -> CellTokens:
        """Tokens with the condition of the model given; as they are where it has none."""
        if not self.condition:
            return tokens
        n_cells, condition = len(tokens), self.condition
        drug_F, log_dose = condition.get("drug"), condition.get("log_dose")
        labels = dict(tokens.labels)
        if "cell" in condition:
            labels["cell"] = torch.full((n_cells,), condition["cell"])
        return tokens.into(
            SignatureTokens,
            labels=labels,
            drug_BF=None if drug_F is None else drug_F.expand(n_cells, -1),
            log_dose_B=None if log_dose is None else torch.full((n_cells,), float(log_dose)),
            given=True,
        )

    def embed(self, tokens: CellTokens) -> tuple[Tensor, Tensor, Tensor | None]:
        """Gene embeddings (B, T, M), all tokens (B, 1 + T, M) with the signature first, and their padding."""
        gene_BTM = self.gene_embedding(tokens.genes_BT)
        x_BTM = gene_BTM + self.value_encoder(tokens.values_BT, hidden_BT=tokens.hidden_BT)
        x_BTM = torch.cat([self.signature.to(x_BTM.dtype).expand(len(tokens), 1, -1), x_BTM], dim=1)
        condition_BM = self._condition(tokens)
        if condition_BM is not None:
            x_BTM = x_BTM + condition_BM.unsqueeze(1)
        return gene_BTM, x_BTM, behind_prefix(tokens.pad_BT, 1)

    def _condition(self, tokens: CellTokens) -> Tensor | None:
        """Sum of the embeddings of the conditions that are given and known, shape (B, M)."""
        if not isinstance(tokens, SignatureTokens) or not tokens.given:
            return None
        parts = []
        if self.drug_encoder is not None and tokens.drug_BF is not None:
            known_B1 = ~tokens.drug_BF[:, :1].isnan()
            parts.append(torch.where(known_B1, self.drug_encoder(at_one_scale(tokens.drug_BF)), 0.0))
        if self.cell_encoder is not None and "cell" in tokens.labels:
            code_B = tokens.labels["cell"]
            parts.append(torch.where(code_B[:, None] >= 0, self.cell_encoder(code_B.clamp(min=0)), 0.0))
        if self.dose_encoder is not None and tokens.log_dose_B is not None:
            dose_B1 = tokens.log_dose_B.unsqueeze(-1)
            parts.append(torch.where(dose_B1.isnan(), 0.0, self.dose_encoder(dose_B1.nan_to_num())))
        return torch.stack(parts).sum(0) if parts else None

    def encode(self, tokens: CellTokens, *, record: Recorder | None = None) -> Encoded:
        """Run the transformer.

        Parameters
        ----------
        tokens
            A batch of signatures.
        record
            Receives queries, keys, values and attention outputs of every layer, the token of the signature first.
        """
        gene_BTM, x_BTM, pad_BT = self.embed(tokens)
        x_BTM = self.transformer(x_BTM, pad_BT=pad_BT, record=record)
        return Encoded(x_BTM[:, 1:], x_BTM[:, 0], {}, gene_BTM, tokens.pad_BT)

    def record_qk(self, tokens: CellTokens, *, record: Recorder) -> None:
        """Record queries and keys of every layer, and compute nothing beyond them."""
        _, x_BTM, pad_BT = self.embed(tokens)
        self.transformer.record_qk(x_BTM, pad_BT=pad_BT, record=record)

    def decode_values(self, encoded: Encoded, tokens: CellTokens) -> Tensor:
        """Change of each gene, shape (B, T): its level, what the decoder says, and the linear path of the drug."""
        values_BT = self.gene_level(tokens.genes_BT).squeeze(-1)
        values_BT = values_BT + self.decoder(encoded.genes_BTM, tokens.genes_BT, pad_BT=encoded.pad_BT)
        drug_BF = tokens.drug_BF if isinstance(tokens, SignatureTokens) and tokens.given else None
        if self.additive is None or self.gene_response is None or drug_BF is None:
            return values_BT
        code_BR = self.additive(at_one_scale(drug_BF))  # 0 without features: the drug is not known
        return values_BT + torch.einsum("btr,br->bt", self.gene_response(tokens.genes_BT), code_BR)

    def tell(self, encoded: Encoded) -> dict[str, Tensor]:
        """What the token of the signature says of its conditions: logits of cell and drug, logarithm of the dose."""
        return {task: teller(encoded.cell_BM).float() for task, teller in self.tellers.items()}


def at_one_scale(drug_BF: Tensor) -> Tensor:
    """Features of drugs at a root mean square of 1, whatever their scale and number; 0 for a drug without any."""
    return F.normalize(drug_BF.nan_to_num()) * math.sqrt(drug_BF.shape[1])


def _mlp(n_inputs: int, d_model: int, config: DrugBertConfig) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(config.feature_dropout),
        nn.Linear(n_inputs, d_model),
        nn.GELU(),
        nn.Dropout(config.dropout),
        nn.Linear(d_model, d_model),
    )


register_architecture("drugbert", DrugBert, DrugBertConfig)

"""A tiny random scFoundation in the publisher's layout: PyTorch's layers for the encoder, formulas for the decoder."""

import torch
from torch import nn

SIZES = {"hidden_dim": 16, "depth": 2, "heads": 4, "module_type": "transformer"}
DECODER = {"hidden_dim": 8, "depth": 2, "heads": 2, "dim_head": 6, "module_type": "performer"}
N_BINS, N_FEATURES, EPS = 7, 11, 1e-4


def part(**children):
    """A module of named parts."""
    module = nn.Module()
    for name, child in children.items():
        module.add_module(name, child)
    return module


class Favor(nn.Module):
    """Equation 7 of Choromanski et al. 2021, as a map of tokens by tokens; for one cell, in float64."""

    def __init__(self):
        super().__init__()
        inner = DECODER["heads"] * DECODER["dim_head"]
        self.to_q, self.to_k, self.to_v = (nn.Linear(DECODER["hidden_dim"], inner) for _ in range(3))
        self.to_out = nn.Linear(inner, DECODER["hidden_dim"])
        self.fast_attention = nn.Module()
        self.fast_attention.register_buffer("projection_matrix", torch.randn(N_FEATURES, DECODER["dim_head"]))

    def maps(self, x):
        """Kernel map of each head."""
        q, k = (linear(x).double().unflatten(-1, (DECODER["heads"], -1)) for linear in (self.to_q, self.to_k))
        omega, found = self.fast_attention.projection_matrix.double(), []
        temper = DECODER["dim_head"] ** 0.25
        largest = (k / temper @ omega.T).max()
        for head in range(DECODER["heads"]):
            scores = torch.zeros(len(x), len(x)).double()
            for feature in omega:
                of_q = (
                    torch.exp(
                        (q[:, head] / temper) @ feature
                        - (q[:, head] / temper).norm(dim=-1) ** 2 / 2
                        - (q[:, head] / temper @ omega.T).max(-1).values
                    )
                    + EPS
                )
                of_k = (
                    torch.exp((k[:, head] / temper) @ feature - (k[:, head] / temper).norm(dim=-1) ** 2 / 2 - largest)
                    + EPS
                )
                scores += torch.outer(of_q, of_k)
            found.append(scores / scores.sum(-1, keepdim=True))
        return torch.stack(found)

    def forward(self, x):
        v = self.to_v(x).double().unflatten(-1, (DECODER["heads"], -1))
        return self.to_out(torch.einsum("hij,jhd->ihd", self.maps(x), v).flatten(1).float())


class Reference(nn.Module):
    """Names of the modules are those of the publisher's checkpoint."""

    def __init__(self, n_genes):
        super().__init__()
        d_model, d_decoder = SIZES["hidden_dim"], DECODER["hidden_dim"]
        self.token_emb = nn.Module()
        self.token_emb.mlp, self.token_emb.mlp2 = nn.Linear(1, N_BINS), nn.Linear(N_BINS, N_BINS)
        self.token_emb.emb, self.token_emb.emb_mask = nn.Embedding(N_BINS, d_model), nn.Embedding(1, d_model)
        self.token_emb.emb_pad = nn.Embedding(1, d_model)
        self.pos_emb = nn.Embedding(n_genes + 3, d_model)
        self.encoder = nn.Module()
        self.encoder.transformer_encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(d_model, SIZES["heads"], 4 * d_model, batch_first=True)
            for _ in range(SIZES["depth"])
        )
        self.encoder.norm = nn.LayerNorm(d_model)
        self.decoder_embed, self.norm = nn.Linear(d_model, d_decoder), nn.LayerNorm(d_decoder)
        self.to_final = nn.Linear(d_decoder, 1)
        layers = nn.ModuleList(
            nn.ModuleList(
                [
                    part(norm=nn.LayerNorm(d_decoder), fn=Favor()),
                    part(
                        norm=nn.LayerNorm(d_decoder),
                        fn=part(
                            fn=part(w1=nn.Linear(d_decoder, 4 * d_decoder), w2=nn.Linear(4 * d_decoder, d_decoder))
                        ),
                    ),
                ]
            )
            for _ in range(DECODER["depth"])
        )
        self.decoder = part(performer=part(net=part(layers=layers)), norm=nn.LayerNorm(d_decoder))
        self.decoder.performer.register_buffer("calls_since_last_redraw", torch.tensor(5))

    def values(self, values):
        hidden = nn.functional.leaky_relu(self.token_emb.mlp(values.unsqueeze(-1)), 0.1)
        return torch.softmax(hidden + self.token_emb.mlp2(hidden), -1) @ self.token_emb.emb.weight

    def forward(self, values, genes, pad):
        """Genes in the order of the list, T and S behind them, then padding."""
        x = torch.where(pad.unsqueeze(-1), self.token_emb.emb_pad.weight[0], self.values(values)) + self.pos_emb(genes)
        for layer in self.encoder.transformer_encoder:
            x = layer(x, src_key_padding_mask=pad)
        return self.encoder.norm(x)

    def decode(self, row):
        """One cell, every gene of the list, then T and S: hidden states, and the kernel maps of each layer."""
        places = torch.arange(len(row))
        shown = places[row > 0]
        x = self.values(row)
        x[shown] = self(row[None, shown], shown[None], torch.zeros(1, len(shown), dtype=torch.bool))[0]
        x, maps = self.decoder_embed(x + self.pos_emb(places)), []
        for attention, feed_forward in self.decoder.performer.net.layers:
            maps.append(attention.fn.maps(attention.norm(x)))
            x = x + attention.fn(attention.norm(x))
            inner = feed_forward.fn.fn
            x = x + inner.w2(nn.functional.gelu(inner.w1(feed_forward.norm(x))))
        return self.norm(self.decoder.norm(x)), maps


def reference(genes, folder):
    """Write the files of the model into a folder, and give it: the encoder as it is read, and the decoder."""
    models, content = {}, {}
    config = {"encoder": SIZES, "decoder": DECODER, "bin_num": N_BINS, "bin_alpha": 1.0}
    for seed, name in ((3, "cell"), (4, "gene")):
        torch.manual_seed(seed)
        model = models[name] = Reference(len(genes)).eval()
        with torch.no_grad():
            for weight in model.parameters():  # every bias and norm counts
                weight.add_(0.3 * torch.randn_like(weight))
        weights = {f"model.{name}": value for name, value in model.state_dict().items()}
        made = {"model": "mae_autobin", "model_config": {"mae_autobin": config}}
        content[name] = {"config": made, "state_dict": weights}
    folder.mkdir()
    torch.save({**content, "rde": {}}, folder / "models.ckpt")
    lines = ["gene_name\tindex", *(f"{gene}\t{number}" for number, gene in enumerate(genes))]
    (folder / "OS_scRNA_gene_index.19264.tsv").write_text("\n".join(lines) + "\n")
    return models

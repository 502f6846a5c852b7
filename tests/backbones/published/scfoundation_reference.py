"""A tiny random scFoundation in the publisher's layout, of the PyTorch layers that the encoder is made of."""

import torch
from torch import nn

SIZES = {"hidden_dim": 16, "depth": 2, "heads": 4, "module_type": "transformer"}
N_BINS = 7


class Reference(nn.Module):
    """Names of the modules are those of the publisher's checkpoint."""

    def __init__(self, n_genes):
        super().__init__()
        d_model = SIZES["hidden_dim"]
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
        self.decoder_embed, self.norm, self.to_final = nn.Linear(d_model, 8), nn.LayerNorm(8), nn.Linear(8, 1)
        self.decoder = nn.ModuleDict({"performer": nn.Linear(8, 8)})

    def forward(self, values, genes, pad):
        """Genes in the order of the list, T and S behind them, then padding."""
        hidden = nn.functional.leaky_relu(self.token_emb.mlp(values.unsqueeze(-1)), 0.1)
        x = torch.softmax(hidden + self.token_emb.mlp2(hidden), -1) @ self.token_emb.emb.weight
        x = torch.where(pad.unsqueeze(-1), self.token_emb.emb_pad.weight[0], x) + self.pos_emb(genes)
        for layer in self.encoder.transformer_encoder:
            x = layer(x, src_key_padding_mask=pad)
        return self.encoder.norm(x)


def reference(genes, folder):
    """Write the files of the model into a folder, and give it."""
    torch.manual_seed(3)
    model = Reference(len(genes)).eval()
    with torch.no_grad():
        for weight in model.parameters():  # every bias and norm counts
            weight.add_(0.3 * torch.randn_like(weight))
    config = {"encoder": SIZES, "decoder": {"module_type": "performer"}, "bin_num": N_BINS, "bin_alpha": 1.0}
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    part = {"config": {"model": "mae_autobin", "model_config": {"mae_autobin": config}}, "state_dict": weights}
    folder.mkdir()
    torch.save({"cell": part, "gene": {}, "rde": {}}, folder / "models.ckpt")
    lines = ["gene_name\tindex", *(f"{gene}\t{number}" for number, gene in enumerate(genes))]
    (folder / "OS_scRNA_gene_index.19264.tsv").write_text("\n".join(lines) + "\n")
    return model

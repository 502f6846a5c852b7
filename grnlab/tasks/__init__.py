"""What a pretrained model does besides networks."""

__all__: list[str] = []

"""The parts that tiny diffusion pipelines of random weights share, with the real classes. They need `diffusers` and
`transformers`; the caller seeds torch, and makes its network first."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest


def without_weights_and_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder of weights is named, and a connection fails the test."""

    def refuse(*_: Any) -> None:
        raise AssertionError("the network is not to be used")

    monkeypatch.delenv("SPLAT_WEIGHTS", raising=False)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def parts(folder: Path) -> tuple[Any, Any, Any, Any]:
    """Autoencoder, text encoder, tokenizer (whose files are written to `folder`) and scheduler, made in this order."""
    import diffusers
    import transformers

    vae = diffusers.AutoencoderKL(
        block_out_channels=(16, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8,
    )
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=192, hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4
        )
    )
    letters = [chr(c) for c in range(33, 127)]
    words = [*letters, *(c + "</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.model_max_length = 77
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
    return vae, text, tokenizer, scheduler

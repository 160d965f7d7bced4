#!/usr/bin/env python3
"""Writes the FP8 checkpoints beside this file: small models in DeepSeek's form, F8_E4M3 weights with an F32
"weight_scale_inv" per block of 128 x 128. Their matrices have whole and partial blocks in both directions. Plain Python,
no libraries; the quantiser is written for clarity and shares nothing with MOIRA's.

usage: make_models.py [FOLDER]    (default: this file's folder)
"""

import json
import math
import os
import random
import struct
import sys

BLOCK = 128
E4M3_MAX = 448.0


def e4m3_value(code):
    sign = -1.0 if code & 0x80 else 1.0
    exponent, mantissa = code >> 3 & 15, code & 7
    if exponent == 15 and mantissa == 7:
        return math.nan
    if exponent == 0:
        return sign * mantissa * 2.0**-9
    return sign * (8 + mantissa) * 2.0 ** (exponent - 10)


POSITIVE = [e4m3_value(code) for code in range(0x7F)]


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def bf16_bits(value):
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def nearest_code(value):
    """The E4M3 code nearest to a number of at most 448, ties to the even code."""
    size = abs(value)
    low, high = 0, len(POSITIVE) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if POSITIVE[middle] <= size else (low, middle - 1)
    code = low
    if code + 1 < len(POSITIVE):
        below, above = size - POSITIVE[code], POSITIVE[code + 1] - size
        if above < below or (above == below and code % 2 == 1):
            code += 1
    return code | (0x80 if math.copysign(1.0, value) < 0 else 0)


def quantize(rows):
    """Codes and scales of a matrix, a list of rows."""
    n, k = len(rows), len(rows[0])
    codes, scales = [bytearray(k) for _ in range(n)], []
    for top in range(0, n, BLOCK):
        for left in range(0, k, BLOCK):
            block = [row[left : left + BLOCK] for row in rows[top : top + BLOCK]]
            largest = max(abs(value) for row in block for value in row)
            scale = f32(largest / E4M3_MAX) if largest > 0 else 1.0
            scales.append(scale)
            for y, row in enumerate(block):
                for x, value in enumerate(row):
                    bounded = max(-E4M3_MAX, min(E4M3_MAX, f32(value / scale)))
                    codes[top + y][left + x] = nearest_code(bounded)
    return b"".join(codes), scales


class Model:
    def __init__(self, config, seed):
        self.config = config
        self.random = random.Random(seed)
        self.tensors = []

    def matrix(self, n, k):
        spread = 1.0 / math.sqrt(k)
        rows = [[f32(self.random.gauss(0.0, spread)) for _ in range(k)] for _ in range(n)]
        # One block differs much from the others, so that a scale in the wrong place shows.
        for row in rows[: min(n, BLOCK)]:
            for column in range(min(k, BLOCK)):
                row[column] = f32(row[column] * 1.75)
        return rows

    def fp8(self, name, n, k):
        codes, scales = quantize(self.matrix(n, k))
        shape = [-(-n // BLOCK), -(-k // BLOCK)]
        self.tensors.append((name, "F8_E4M3", [n, k], codes))
        self.tensors.append((name + "_scale_inv", "F32", shape, struct.pack("<%df" % len(scales), *scales)))

    def bf16(self, name, *shape, around=None):
        if around is not None:
            values = [around + self.random.uniform(-0.1, 0.1) for _ in range(shape[0])]
        else:
            values = [value for row in self.matrix(*shape) for value in row]
        self.tensors.append((name, "BF16", list(shape), struct.pack("<%dH" % len(values), *map(bf16_bits, values))))

    def ffn(self, prefix, hidden, inner):
        self.fp8(prefix + "down_proj.weight", hidden, inner)
        self.fp8(prefix + "gate_proj.weight", inner, hidden)
        self.fp8(prefix + "up_proj.weight", inner, hidden)

    def write(self, folder):
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
            json.dump(self.config, file, indent=2, sort_keys=True)
            file.write("\n")
        header, offset = {}, 0
        for name, dtype, shape, data in self.tensors:
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
            offset += len(data)
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with open(os.path.join(folder, "model.safetensors"), "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for tensor in self.tensors:
                file.write(tensor[3])


QUANTIZATION = {
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "quant_method": "fp8",
    "weight_block_size": [BLOCK, BLOCK],
}

COMMON = {
    "attention_bias": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "hidden_act": "silu",
    "hidden_size": 192,
    "max_position_embeddings": 256,
    "norm_topk_prob": True,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "quantization_config": QUANTIZATION,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "vocab_size": 304,
}


def begin(config, seed):
    model = Model(dict(COMMON, **config), seed)
    model.bf16("model.embed_tokens.weight", model.config["vocab_size"], model.config["hidden_size"])
    return model


def end(model):
    model.bf16("model.norm.weight", model.config["hidden_size"], around=1.0)
    model.bf16("lm_head.weight", model.config["vocab_size"], model.config["hidden_size"])
    return model


def deepseek():
    model = begin(
        {
            "architectures": ["DeepseekV3ForCausalLM"],
            "first_k_dense_replace": 1,
            "intermediate_size": 200,
            "kv_lora_rank": 144,
            "model_type": "deepseek_v3",
            "moe_intermediate_size": 136,
            "n_group": 2,
            "n_routed_experts": 6,
            "n_shared_experts": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "q_lora_rank": 160,
            "qk_nope_head_dim": 40,
            "qk_rope_head_dim": 16,
            "routed_scaling_factor": 1.5,
            "scoring_func": "sigmoid",
            "topk_group": 1,
            "v_head_dim": 40,
        },
        1,
    )
    c = model.config
    hidden, heads = c["hidden_size"], c["num_attention_heads"]
    for layer in range(c["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        attention = prefix + "self_attn."
        model.bf16(prefix + "input_layernorm.weight", hidden, around=1.0)
        model.bf16(prefix + "post_attention_layernorm.weight", hidden, around=1.0)
        model.fp8(attention + "q_a_proj.weight", c["q_lora_rank"], hidden)
        model.bf16(attention + "q_a_layernorm.weight", c["q_lora_rank"], around=1.0)
        model.fp8(attention + "q_b_proj.weight", heads * (40 + 16), c["q_lora_rank"])
        model.fp8(attention + "kv_a_proj_with_mqa.weight", c["kv_lora_rank"] + 16, hidden)
        model.bf16(attention + "kv_a_layernorm.weight", c["kv_lora_rank"], around=1.0)
        model.fp8(attention + "kv_b_proj.weight", heads * (40 + 40), c["kv_lora_rank"])
        model.fp8(attention + "o_proj.weight", hidden, heads * 40)
        if layer == 0:
            model.ffn(prefix + "mlp.", hidden, c["intermediate_size"])
            continue
        model.bf16(prefix + "mlp.gate.weight", c["n_routed_experts"], hidden)
        bias = [model.random.uniform(-0.05, 0.05) for _ in range(c["n_routed_experts"])]
        model.tensors.append(
            (prefix + "mlp.gate.e_score_correction_bias", "F32", [len(bias)], struct.pack("<%df" % len(bias), *bias))
        )
        model.ffn(prefix + "mlp.shared_experts.", hidden, c["moe_intermediate_size"])
        for expert in range(c["n_routed_experts"]):
            model.ffn(prefix + f"mlp.experts.{expert}.", hidden, c["moe_intermediate_size"])
    return end(model)


def qwen():
    model = begin(
        {
            "architectures": ["Qwen3MoeForCausalLM"],
            "decoder_sparse_step": 1,
            "head_dim": 36,
            "intermediate_size": 72,
            "mlp_only_layers": [],
            "model_type": "qwen3_moe",
            "moe_intermediate_size": 72,
            "num_attention_heads": 4,
            "num_experts": 6,
            "num_key_value_heads": 2,
        },
        2,
    )
    c = model.config
    hidden, wide, narrow = c["hidden_size"], 4 * 36, 2 * 36
    for layer in range(c["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        attention = prefix + "self_attn."
        model.bf16(prefix + "input_layernorm.weight", hidden, around=1.0)
        model.bf16(prefix + "post_attention_layernorm.weight", hidden, around=1.0)
        model.fp8(attention + "q_proj.weight", wide, hidden)
        model.fp8(attention + "k_proj.weight", narrow, hidden)
        model.fp8(attention + "v_proj.weight", narrow, hidden)
        model.fp8(attention + "o_proj.weight", hidden, wide)
        model.bf16(attention + "q_norm.weight", c["head_dim"], around=1.0)
        model.bf16(attention + "k_norm.weight", c["head_dim"], around=1.0)
        model.bf16(prefix + "mlp.gate.weight", c["num_experts"], hidden)
        for expert in range(c["num_experts"]):
            model.ffn(prefix + f"mlp.experts.{expert}.", hidden, c["moe_intermediate_size"])
    return end(model)


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for make in (deepseek, qwen):
        model = make()
        model.write(os.path.join(folder, model.config["model_type"]))


if __name__ == "__main__":
    main()

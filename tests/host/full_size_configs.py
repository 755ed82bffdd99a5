"""Models at their real size: ComfyUI's class of each, and what its detection says of such a file.

Plain data, importable without ComfyUI. What is not said here is as in the tiny models.
"""

from tiny_families import configs as tiny

SD15 = tiny.SD15 | {"model_channels": 320, "channel_mult": [1, 2, 4, 4], "context_dim": 768}
SD20 = SD15 | {"use_linear_in_transformer": True, "context_dim": 1024}
SDXL = tiny.SDXL | {
    "adm_in_channels": 2816,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "channel_mult": [1, 2, 4],
    "transformer_depth_middle": 10,
    "context_dim": 2048,
}
REFINER = SDXL | {
    "adm_in_channels": 2560,
    "model_channels": 384,
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [0, 0, 4, 4, 4, 4, 0, 0],
    "transformer_depth_output": [0, 0, 0, 4, 4, 4, 4, 4, 4, 0, 0, 0],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth_middle": 4,
    "context_dim": 1280,
}
SSD1B = SDXL | {
    "transformer_depth": [0, 0, 2, 2, 4, 4],
    "transformer_depth_output": [0, 0, 0, 1, 1, 2, 10, 4, 4],
    "transformer_depth_middle": tiny.ONLY_RESNET,
}
VEGA = SDXL | {
    "transformer_depth": [0, 0, 1, 1, 2, 2],
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "transformer_depth_middle": tiny.ONLY_RESNET,
}
KOALA_700M = SDXL | {
    "num_res_blocks": [1, 1, 1],
    "transformer_depth": [0, 2, 5],
    "transformer_depth_output": [0, 0, 2, 2, 5, 5],
    "transformer_depth_middle": tiny.NOTHING,
}
KOALA_1B = KOALA_700M | {
    "transformer_depth": [0, 2, 6],
    "transformer_depth_output": [0, 0, 2, 2, 6, 6],
    "transformer_depth_middle": 6,
}
SD3 = {name: value for name, value in tiny.SD3.items() if name not in ("num_blocks", "qk_norm")} | {
    "depth": 24,
    "adm_in_channels": 2048,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": 4096, "out_features": 1536},
    },
    "num_patches": 192 * 192,
    "pos_embed_max_size": 192,
    "x_block_self_attn_layers": [],
}
SD35_MEDIUM = SD3 | {
    "num_patches": 384 * 384,
    "pos_embed_max_size": 384,
    "qk_norm": "rms",
    "x_block_self_attn_layers": list(range(13)),
}
SD35_LARGE = SD3 | {
    "depth": 38,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": 4096, "out_features": 2432},
    },
    "qk_norm": "rms",
}
AURA = {"max_seq": 64 * 64, "cond_seq_dim": 2048, "n_double_layers": 4, "n_layers": 36}
PIXART = {
    "num_heads": 16,
    "hidden_size": 1152,
    "depth": 28,
    "caption_channels": 4096,
    "input_size": 128,
    "pe_interpolation": 2,
}
PIXART_ALPHA = tiny.PIXART_ALPHA | PIXART | {"model_max_length": 120}
PIXART_SIGMA = tiny.PIXART_SIGMA | PIXART | {"model_max_length": 300}
HUNYUAN_DIT = {"image_model": "hydit", "depth": 40, "hidden_size": 1408, "mlp_ratio": 4.3637}
HUNYUAN_DIT_1 = HUNYUAN_DIT | {"image_model": "hydit1", "size_cond": True, "use_style_cond": True}
FLUX = tiny.FLUX | {
    "hidden_size": 3072,
    "num_heads": 24,
    "axes_dim": [16, 56, 56],
    "mlp_ratio": 4.0,
    "depth": 19,
    "depth_single_blocks": 38,
    "context_in_dim": 4096,
    "vec_in_dim": 768,
}
FLUX2 = tiny.FLUX2 | {
    "hidden_size": 6144,
    "num_heads": 48,
    "axes_dim": [32, 32, 32, 32],
    "mlp_ratio": 3.0,
    "depth": 8,
    "depth_single_blocks": 48,
    "context_in_dim": 15360,
}
OF_CHROMA = {
    "hidden_size": 3072,
    "num_heads": 24,
    "axes_dim": [16, 56, 56],
    "mlp_ratio": 4.0,
    "depth": 19,
    "depth_single_blocks": 38,
    "context_in_dim": 4096,
    "out_dim": 3072,
    "hidden_dim": 5120,
    "n_layers": 5,
}
CHROMA = tiny.CHROMA | OF_CHROMA
RADIANCE = (
    tiny.RADIANCE
    | OF_CHROMA
    | {"nerf_hidden_size": 64, "nerf_mlp_ratio": 4, "nerf_depth": 4, "nerf_max_freqs": 8}
)
LUMINA2 = tiny.LUMINA2 | {
    "dim": 2304,
    "cap_feat_dim": 2304,
    "n_layers": 26,
    "n_refiner_layers": 2,
    "n_heads": 24,
    "n_kv_heads": 8,
    "axes_dims": [32, 32, 32],
    "multiple_of": 256,
    "ffn_dim_multiplier": 4.0,
}
Z_IMAGE = tiny.Z_IMAGE | {
    "dim": 3840,
    "cap_feat_dim": 2560,
    "n_layers": 30,
    "n_refiner_layers": 2,
    "n_heads": 30,
    "n_kv_heads": 30,
    "axes_dims": [32, 48, 48],
    "multiple_of": 256,
    "ffn_dim_multiplier": 8 / 3,
}
QWEN_IMAGE = {"image_model": "qwen_image", "in_channels": 64, "num_layers": 60}
WAN_14B = tiny.WAN | {"dim": 5120, "text_dim": 4096, "num_heads": 40, "ffn_dim": 13824, "num_layers": 40}
WAN_1_3B = WAN_14B | {"dim": 1536, "num_heads": 12, "ffn_dim": 8960, "num_layers": 30}
WAN_5B = WAN_14B | {
    "dim": 3072,
    "num_heads": 24,
    "ffn_dim": 14336,
    "num_layers": 30,
    "in_dim": 48,
    "out_dim": 48,
}
HUNYUAN_VIDEO = tiny.HUNYUAN_VIDEO | {
    "hidden_size": 3072,
    "num_heads": 24,
    "axes_dim": [16, 56, 56],
    "mlp_ratio": 4.0,
    "depth": 20,
    "depth_single_blocks": 40,
    "context_in_dim": 4096,
    "vec_in_dim": 768,
}
HUNYUAN_VIDEO_15 = HUNYUAN_VIDEO | {
    "in_channels": 65,
    "out_channels": 32,
    "patch_size": [1, 1, 1],
    "hidden_size": 2048,
    "num_heads": 16,
    "depth": 54,
    "depth_single_blocks": 0,
    "context_in_dim": 3584,
    "vec_in_dim": None,
    "guidance_embed": False,
    "byt5": True,
    "use_cond_type_embedding": True,
    "vision_in_dim": 1152,
}
HUNYUAN_IMAGE = HUNYUAN_VIDEO | {
    "in_channels": 64,
    "out_channels": 64,
    "patch_size": [1, 1],
    "axes_dim": [64, 64],
    "hidden_size": 3584,
    "num_heads": 28,
    "context_in_dim": 3584,
    "vec_in_dim": None,
    "guidance_embed": False,
    "byt5": True,
}
HIDREAM = tiny.HIDREAM | {
    "attention_head_dim": 128,
    "axes_dims_rope": [64, 32, 32],
    "caption_channels": [4096, 4096],
    "llama_layers": [*range(32), *[31] * 16],
    "num_attention_heads": 20,
    "num_layers": 16,
    "num_single_layers": 32,
    "text_emb_dim": 2048,
}
OMNIGEN2 = tiny.OMNIGEN2 | {
    "axes_dim_rope": [40, 40, 40],
    "hidden_size": 2520,
    "multiple_of": 256,
    "num_attention_heads": 21,
    "num_kv_heads": 7,
    "num_layers": 32,
    "num_refiner_layers": 2,
    "text_feat_dim": 2048,
}
OF_COSMOS = {"crossattn_emb_channels": 1024, "adaln_lora_dim": 256, "num_blocks": 28}
PREDICT2_2B = tiny.PREDICT2 | OF_COSMOS | {"model_channels": 2048, "num_heads": 16}
PREDICT2_14B = PREDICT2_2B | {"model_channels": 5120, "num_heads": 40, "num_blocks": 36}
COSMOS_7B = tiny.COSMOS | OF_COSMOS | {"model_channels": 4096, "num_heads": 32}
LTXV = {"image_model": "ltxv"}
CASCADE_C = {"stable_cascade_stage": "c", "c_cond": 2048}

# ComfyUI's class and the config of each, by a name that tells several of a class apart
FULL_SIZE: dict[str, tuple[str, dict]] = {
    "SD15": ("SD15", SD15),
    "SD20": ("SD20", SD20),
    "SDXL": ("SDXL", SDXL),
    "SDXLRefiner": ("SDXLRefiner", REFINER),
    "SSD1B": ("SSD1B", SSD1B),
    "Segmind_Vega": ("Segmind_Vega", VEGA),
    "KOALA_700M": ("KOALA_700M", KOALA_700M),
    "KOALA_1B": ("KOALA_1B", KOALA_1B),
    "SD3 medium": ("SD3", SD3),
    "SD3.5 medium": ("SD3", SD35_MEDIUM),
    "SD3.5 large": ("SD3", SD35_LARGE),
    "AuraFlow": ("AuraFlow", AURA),
    "PixArtAlpha": ("PixArtAlpha", PIXART_ALPHA),
    "PixArtSigma": ("PixArtSigma", PIXART_SIGMA),
    "HunyuanDiT": ("HunyuanDiT", HUNYUAN_DIT),
    "HunyuanDiT1": ("HunyuanDiT1", HUNYUAN_DIT_1),
    "Flux": ("Flux", FLUX),
    "FluxSchnell": ("FluxSchnell", FLUX | {"guidance_embed": False}),
    "Flux2": ("Flux2", FLUX2),
    "Chroma": ("Chroma", CHROMA),
    "ChromaRadiance": ("ChromaRadiance", RADIANCE),
    "Lumina2": ("Lumina2", LUMINA2),
    "ZImage": ("ZImage", Z_IMAGE),
    "QwenImage": ("QwenImage", QWEN_IMAGE),
    "Wan 14B": ("WAN21_T2V", WAN_14B),
    "Wan 1.3B": ("WAN21_T2V", WAN_1_3B),
    "Wan 2.2 5B": ("WAN22_T2V", WAN_5B),
    "HunyuanVideo": ("HunyuanVideo", HUNYUAN_VIDEO),
    "HunyuanVideo15": ("HunyuanVideo15", HUNYUAN_VIDEO_15),
    "HunyuanImage21": ("HunyuanImage21", HUNYUAN_IMAGE),
    "HiDream": ("HiDream", HIDREAM),
    "Omnigen2": ("Omnigen2", OMNIGEN2),
    "Cosmos Predict2 2B": ("CosmosT2IPredict2", PREDICT2_2B),
    "Cosmos Predict2 14B": ("CosmosT2IPredict2", PREDICT2_14B),
    "Cosmos 7B": ("CosmosT2V", COSMOS_7B),
    "LTXV": ("LTXV", LTXV),
    "Stable_Cascade_C": ("Stable_Cascade_C", CASCADE_C),
}

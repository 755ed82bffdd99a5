"""What ComfyUI's detection would say of each tiny model: a real one's `unet_config`, narrow and shallow.

`table.py` says which family each is of.
"""

CLIP_L, CLIP_G, WIDTH = 32, 64, 32  # channels of the tiny CLIPs, and of every other text encoder
SD3_WIDTH = 4096  # to which ComfyUI pads what SD3's two CLIPs say, whatever T5's width is

# UNets ----------------------------------------------------------------------------------------------------

UNET = {
    "use_checkpoint": False,
    "image_size": 32,
    "use_spatial_transformer": True,
    "legacy": False,
    "adm_in_channels": None,
    "in_channels": 4,
    "out_channels": 4,
    "use_temporal_resblock": False,
    "use_temporal_attention": False,
}
# as deep as the real one, so that its layers have the real one's names
SD15 = UNET | {
    "model_channels": 32,
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "channel_mult": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "use_linear_in_transformer": False,
    "context_dim": CLIP_L,
}
SD20 = UNET | {
    "model_channels": 64,  # one attention head
    "num_res_blocks": [1, 1],
    "transformer_depth": [1, 0],
    "transformer_depth_output": [1, 1, 0, 0],
    "channel_mult": [1, 1],
    "transformer_depth_middle": 1,
    "use_linear_in_transformer": True,
    "context_dim": CLIP_L,
}
SIZE_CHANNELS = 256  # of SDXL's embedding of one number
SDXL = UNET | {
    "num_classes": "sequential",
    "adm_in_channels": CLIP_G + 6 * SIZE_CHANNELS,
    "model_channels": 64,
    "num_res_blocks": [1, 1, 1],
    "transformer_depth": [0, 1, 2],
    "transformer_depth_output": [0, 0, 1, 1, 2, 2],
    "channel_mult": [1, 1, 1],
    "transformer_depth_middle": 2,
    "use_linear_in_transformer": True,
    "context_dim": CLIP_L + CLIP_G,
}
ONLY_RESNET, NOTHING = -1, -2  # where others have transformers, in the middle
SSD1B = SDXL | {"transformer_depth_middle": ONLY_RESNET}
KOALA = SDXL | {"transformer_depth_middle": NOTHING}
REFINER = SDXL | {"adm_in_channels": CLIP_G + 5 * SIZE_CHANNELS, "context_dim": CLIP_G}
LOTUS = SD20 | {"num_classes": "sequential", "adm_in_channels": 4, "num_head_channels": 64}

# transformers ---------------------------------------------------------------------------------------------

SD3 = {
    "in_channels": 16,
    "patch_size": 2,
    "out_channels": 16,
    "depth": 1,  # times 64: the width
    "num_blocks": 2,
    "input_size": None,
    "adm_in_channels": CLIP_L + CLIP_G,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": SD3_WIDTH, "out_features": 64},
    },
    "num_patches": 32 * 32,
    "pos_embed_max_size": 32,
    "pos_embed_scaling_factor": None,
    "qk_norm": "rms",
    "x_block_self_attn_layers": [0],
}
AURA = {
    "max_seq": 8 * 8,
    "cond_seq_dim": WIDTH,
    "n_double_layers": 1,
    "n_layers": 2,
    "dim": 64,
    "n_heads": 2,
    "global_conddim": 64,
}
PIXART = {
    "num_heads": 4,
    "patch_size": 2,
    "hidden_size": 48,
    "in_channels": 4,
    "depth": 2,
    "caption_channels": WIDTH,
    "model_max_length": 20,
    "input_size": 64,
    "pe_interpolation": 1,
}
PIXART_ALPHA = PIXART | {"image_model": "pixart_alpha", "micro_condition": True}
PIXART_SIGMA = PIXART | {"image_model": "pixart_sigma", "micro_condition": False}
HUNYUAN_DIT = {
    "image_model": "hydit",
    "depth": 4,  # the last one has a skip connection
    "hidden_size": 64,
    "num_heads": 2,
    "text_states_dim": WIDTH,
    "text_states_dim_t5": WIDTH,
}
HUNYUAN_DIT_1 = HUNYUAN_DIT | {"image_model": "hydit1", "size_cond": True, "use_style_cond": True}
FLUX = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "hidden_size": 64,
    "num_heads": 2,
    "axes_dim": [8, 12, 12],
    "theta": 10000,
    "mlp_ratio": 2.0,
    "depth": 1,
    "depth_single_blocks": 2,
    "context_in_dim": WIDTH,
    "vec_in_dim": CLIP_L,
    "qkv_bias": True,
    "guidance_embed": True,
}
FLUX2 = FLUX | {
    "image_model": "flux2",
    "in_channels": 128,
    "out_channels": 128,
    "patch_size": 1,
    "axes_dim": [8, 8, 8, 8],
    "theta": 2000,
    "context_in_dim": 3 * WIDTH,  # what three layers of its text encoder say, side by side
    "global_modulation": True,
    "vec_in_dim": None,
    "mlp_silu_act": True,
    "qkv_bias": False,
    "ops_bias": False,
    "default_ref_method": "index",
    "ref_index_scale": 10.0,
}
CHROMA = {name: FLUX[name] for name in FLUX if name not in ("vec_in_dim", "guidance_embed")} | {
    "image_model": "chroma",
    "in_channels": 64,
    "out_channels": 64,
    "in_dim": 64,
    "out_dim": 64,
    "hidden_dim": 64,
    "n_layers": 1,
}
RADIANCE = CHROMA | {
    "image_model": "chroma_radiance",
    "in_channels": 3,
    "out_channels": 3,
    "patch_size": 16,
    "nerf_hidden_size": 16,
    "nerf_mlp_ratio": 1,
    "nerf_depth": 1,
    "nerf_max_freqs": 4,
    "nerf_tile_size": 512,
    "nerf_final_head_type": "conv",
    "nerf_embedder_dtype": "float32",
}
LUMINA2 = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "dim": 64,
    "cap_feat_dim": WIDTH,
    "n_layers": 2,
    "n_refiner_layers": 1,
    "qk_norm": True,
    "n_heads": 4,
    "n_kv_heads": 2,
    "axes_dims": [4, 6, 6],
    "axes_lens": [300, 512, 512],
    "rope_theta": 10000.0,
    "multiple_of": 32,
    "ffn_dim_multiplier": 2.0,
}
Z_IMAGE = LUMINA2 | {
    "dim": 256,  # its modulation is never narrower
    "n_kv_heads": 4,
    "axes_dims": [16, 24, 24],
    "axes_lens": [1536, 512, 512],
    "rope_theta": 256.0,
    "ffn_dim_multiplier": 0.5,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}
QWEN_IMAGE = {
    "image_model": "qwen_image",
    "in_channels": 64,
    "num_layers": 2,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "joint_attention_dim": WIDTH,
    "axes_dims_rope": [8, 12, 12],
}
WAN = {
    "image_model": "wan2.1",
    "model_type": "t2v",
    "dim": 48,
    "in_dim": 16,
    "out_dim": 16,
    "text_dim": WIDTH,
    "num_heads": 2,
    "ffn_dim": 96,
    "num_layers": 2,
    "patch_size": [1, 2, 2],
    "freq_dim": 256,
    "window_size": [-1, -1],
    "qk_norm": True,
    "cross_attn_norm": True,
    "eps": 1e-6,
}
# byt5, which encodes words in quotation marks, is left out: its layers cannot be narrowed
HUNYUAN_VIDEO = {
    "image_model": "hunyuan_video",
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": [1, 2, 2],
    "hidden_size": 64,
    "num_heads": 2,
    "axes_dim": [8, 12, 12],
    "theta": 256,
    "mlp_ratio": 2.0,
    "depth": 1,
    "depth_single_blocks": 2,
    "context_in_dim": WIDTH,
    "vec_in_dim": CLIP_L,
    "qkv_bias": True,
    "guidance_embed": True,
    "byt5": False,
    "meanflow": False,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
}
HUNYUAN_IMAGE = HUNYUAN_VIDEO | {
    "in_channels": 64,
    "out_channels": 64,
    "patch_size": [1, 1],
    "axes_dim": [16, 16],
    "vec_in_dim": None,
    "guidance_embed": False,
}
HUNYUAN_VIDEO_15 = HUNYUAN_VIDEO | {
    "in_channels": 65,  # 32 of the latents, 32 of a picture, and a mask
    "out_channels": 32,
    "patch_size": [1, 1, 1],
    "vec_in_dim": None,
    "guidance_embed": False,
    "use_cond_type_embedding": True,
    "vision_in_dim": WIDTH,
}
HIDREAM = {
    "image_model": "hidream",
    "attention_head_dim": 32,
    "axes_dims_rope": [16, 8, 8],
    "caption_channels": [WIDTH, WIDTH],
    "max_resolution": [128, 128],
    "in_channels": 16,
    "llama_layers": [0, 1],
    "num_attention_heads": 2,
    "num_routed_experts": 4,
    "num_activated_experts": 2,
    "num_layers": 1,
    "num_single_layers": 1,
    "out_channels": 16,
    "patch_size": 2,
    "text_emb_dim": CLIP_L + CLIP_G,
}
OMNIGEN2 = {
    "image_model": "omnigen2",
    "axes_dim_rope": [4, 6, 6],
    "axes_lens": [1024, 1664, 1664],
    "ffn_dim_multiplier": None,
    "hidden_size": 64,
    "in_channels": 16,
    "multiple_of": 32,
    "norm_eps": 1e-05,
    "num_attention_heads": 4,
    "num_kv_heads": 2,
    "num_layers": 2,
    "num_refiner_layers": 1,
    "out_channels": None,
    "patch_size": 2,
    "text_feat_dim": WIDTH,
    "timestep_scale": 1000.0,
}
COSMOS_BASE = {
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "model_channels": 64,
    "num_blocks": 2,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "concat_padding_mask": True,
    "crossattn_emb_channels": WIDTH,
    "pos_emb_cls": "rope3d",
    "pos_emb_interpolation": "crop",
    "use_adaln_lora": True,
    "adaln_lora_dim": 16,
}
COSMOS = COSMOS_BASE | {
    "image_model": "cosmos",
    "block_config": "FA-CA-MLP",
    "block_x_format": "THWBD",
    "affline_emb_norm": True,
    "pos_emb_learnable": False,
    "extra_per_block_abs_pos_emb": True,
    "extra_per_block_abs_pos_emb_type": "learnable",
    "rope_t_extrapolation_ratio": 2.0,
}
PREDICT2 = COSMOS_BASE | {
    "image_model": "cosmos_predict2",
    "pos_emb_learnable": True,
    "extra_per_block_abs_pos_emb": False,
    "rope_h_extrapolation_ratio": 4.0,
    "rope_w_extrapolation_ratio": 4.0,
    "rope_enable_fps_modulation": False,
}
LTXV = {
    "image_model": "ltxv",
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "cross_attention_dim": 48,  # what captions are projected to: as wide as the model
    "caption_channels": WIDTH,
}
CASCADE_C = {
    "stable_cascade_stage": "c",
    "c_cond": 64,
    "c_hidden": [64, 64],
    "nhead": [2, 2],
    "blocks": [[1, 1], [1, 1]],
    "c_clip_text": CLIP_G,
    "c_clip_text_pooled": CLIP_G,
}

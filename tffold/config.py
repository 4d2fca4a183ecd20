"""The typed configuration: every setting, its type and its default, once.

A YAML file under ``configs/`` says only what differs from these defaults;
``tffold.config_file`` merges it and the command line's overrides strictly.
Defaults are the published AlphaFold 2 ``model_1`` (Jumper et al. 2021,
supplement 1.11-1.12, Table 4).
"""

from __future__ import annotations

from dataclasses import dataclass, field

STRATEGIES = ("single", "mirrored", "multi_worker", "tpu")
RANKINGS = ("plddt", "ptm")


@dataclass
class AttentionConfig:
    """Gated multi-head attention; ``key_dim`` is the total over the heads."""

    num_head: int = 8
    key_dim: int = 256
    dropout_rate: float = 0.0


@dataclass
class StackConfig:
    """One Evoformer-like stack (Algorithm 6 or 18)."""

    num_block: int = 48
    msa_row_attention: AttentionConfig = field(
        default_factory=lambda: AttentionConfig(8, 256, 0.15)
    )
    msa_column_attention: AttentionConfig = field(
        default_factory=lambda: AttentionConfig(8, 256, 0.0)
    )
    msa_transition_factor: int = 4
    outer_product_channel: int = 32
    triangle_multiplication_channel: int = 128
    triangle_multiplication_dropout_rate: float = 0.25
    triangle_attention: AttentionConfig = field(
        default_factory=lambda: AttentionConfig(4, 128, 0.25)
    )
    pair_transition_factor: int = 4


@dataclass
class TemplateConfig:
    """Template embedding (Algorithms 16 and 17)."""

    enabled: bool = True
    embed_torsion_angles: bool = True
    channel: int = 64
    num_block: int = 2
    triangle_multiplication_channel: int = 64
    triangle_multiplication_dropout_rate: float = 0.25
    triangle_attention: AttentionConfig = field(
        default_factory=lambda: AttentionConfig(4, 64, 0.25)
    )
    pair_transition_factor: int = 2
    pointwise_attention: AttentionConfig = field(default_factory=lambda: AttentionConfig(4, 64))
    dgram_min_bin: float = 3.25
    dgram_max_bin: float = 50.75
    dgram_num_bins: int = 39
    use_unit_vector: bool = False


@dataclass
class RecyclingConfig:
    """Recycling embedder (Algorithm 32)."""

    min_bin: float = 3.25
    max_bin: float = 20.75
    num_bins: int = 15


@dataclass
class StructureModuleConfig:
    """Structure module (Algorithms 20 to 25)."""

    num_layer: int = 8
    num_head: int = 12
    num_scalar_qk: int = 16
    num_scalar_v: int = 16
    num_point_qk: int = 4
    num_point_v: int = 8
    num_layer_in_transition: int = 3
    torsion_channel: int = 128
    num_torsion_resblock: int = 2
    position_scale: float = 10.0  # Å per model unit
    dropout_rate: float = 0.1


@dataclass
class HeadsConfig:
    """The heads (supplement 1.9)."""

    masked_msa_num_output: int = 23
    distogram_first_break: float = 2.3125  # Å
    distogram_last_break: float = 21.6875  # Å
    distogram_num_bins: int = 64
    predicted_lddt_num_channel: int = 128
    predicted_lddt_num_bins: int = 50
    predicted_aligned_error: bool = False
    predicted_aligned_error_max_bin: float = 31.0  # Å
    predicted_aligned_error_num_bins: int = 64


def _extra_msa_stack() -> StackConfig:
    return StackConfig(
        num_block=4,
        msa_row_attention=AttentionConfig(8, 64, 0.15),
        msa_column_attention=AttentionConfig(8, 64, 0.0),
    )


@dataclass
class ModelConfig:
    """The network (supplement 1.4 to 1.10)."""

    msa_channel: int = 256
    pair_channel: int = 128
    single_channel: int = 384
    extra_msa_channel: int = 64
    max_relative_feature: int = 32
    num_recycle: int = 3  # extra passes; training draws 0..num_recycle
    evoformer: StackConfig = field(default_factory=StackConfig)
    extra_msa_stack: StackConfig = field(default_factory=_extra_msa_stack)
    template: TemplateConfig = field(default_factory=TemplateConfig)
    recycling: RecyclingConfig = field(default_factory=RecyclingConfig)
    structure_module: StructureModuleConfig = field(default_factory=StructureModuleConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    zero_init: bool = True  # output layers start at zero (supplement 1.11.4)
    slice_mib: int = 32  # MiB of a module's largest intermediate at a time; 0 = all at once
    remat: bool = True  # recompute each block in the backward pass (supplement 1.11.8)
    bfloat16: bool = False  # trunk in bfloat16, variables and structure module in float32


@dataclass
class LossConfig:
    """Weights and constants of the loss terms (supplement 1.9)."""

    structure_module_weight: float = 1.0  # holds both FAPE halves, chi and violation
    distogram_weight: float = 0.3
    masked_msa_weight: float = 2.0
    predicted_lddt_weight: float = 0.01
    experimentally_resolved_weight: float = 0.0
    predicted_aligned_error_weight: float = 0.0
    backbone_fape_weight: float = 0.5
    sidechain_fape_weight: float = 0.5
    chi_weight: float = 0.5
    angle_norm_weight: float = 0.01
    violation_weight: float = 0.0
    fape_clamp_distance: float = 10.0  # Å
    fape_loss_unit_distance: float = 10.0  # Å
    sidechain_fape_clamp_distance: float = 10.0  # Å
    sidechain_fape_length_scale: float = 10.0  # Å
    violation_tolerance_factor: float = 12.0  # standard deviations
    clash_overlap_tolerance: float = 1.5  # Å
    min_resolution: float = 0.1  # Å; confidence heads learn within these
    max_resolution: float = 3.0
    # Where the paper and DeepMind's code part, the defaults follow the code.
    torsion_all_angles: bool = False  # True: all seven angles (1.9.1); else chi only
    scale_by_sqrt_length: bool = False  # True: total x sqrt(residues after crop) (1.9)


@dataclass
class FilterConfig:
    """Which chains of a set are used, and how often (supplement 1.2.5)."""

    max_resolution: float = 9.0  # Å, exclusive; unknown (0) passes; 0 = no bound
    max_single_residue_fraction: float = 0.8  # share of the most frequent residue
    min_length: int = 0  # residues
    max_length: int = 0  # 0 = no bound
    min_msa_rows: int = 0
    max_release_date: str = ""  # YYYY-MM-DD, inclusive; empty = no bound
    sample_by_length: bool = True  # accept with max(min(L, 512), 256) / 512
    sample_by_cluster: bool = True  # accept with 1 / chains in its cluster


def _distillation_filter() -> FilterConfig:
    return FilterConfig(min_length=200, max_length=1024, min_msa_rows=200)  # supplement 1.3


@dataclass
class DataConfig:
    """From shards to batches (supplement 1.2, 1.3)."""

    train: list[str] = field(default_factory=list)  # shard files, folders or patterns
    distillation: list[str] = field(default_factory=list)  # the same, of predicted structures
    validation: list[str] = field(default_factory=list)
    train_filter: FilterConfig = field(default_factory=FilterConfig)
    distillation_filter: FilterConfig = field(default_factory=_distillation_filter)
    distillation_probability: float = 0.75  # share of predicted structures when there are both
    distillation_min_confidence: float = 50.0  # pLDDT; residues at or below it are masked
    distillation_max_msa: int = 1000  # rows
    crop_size: int = 256
    clamp_prob: float = 0.9  # share of examples with clamped backbone FAPE
    max_msa_clusters: int = 128  # N_seq
    reduce_msa_clusters_by_max_templates: bool = True  # templates count among N_seq
    max_extra_msa: int = 1024
    use_templates: bool = True
    max_templates: int = 4
    template_top: int = 20  # training draws from this many best hits
    block_deletion_num_blocks: int = 5
    block_deletion_fraction: float = 0.3  # of the rows, each block
    masked_msa_replace_fraction: float = 0.15
    masked_msa_uniform_prob: float = 0.1
    masked_msa_profile_prob: float = 0.1
    masked_msa_same_prob: float = 0.1
    mask_msa_in_inference: bool = True
    size_buckets: list[int] = field(  # inference pads to the next one, or a multiple of the last
        default_factory=lambda: [64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048]
    )
    on_corrupt: str = "raise"  # or "skip": count, report, take another record
    num_parallel: int = 0  # examples prepared at once; 0 = as many as pay
    prefetch: int = 2  # batches


@dataclass
class TrainConfig:
    """Optimisation, schedule, checkpoints, monitoring (supplement 1.11)."""

    run_dir: str = "runs/default"
    init_from: str = ""  # a checkpoint or DeepMind's .npz
    steps: int = 78125
    batch_size: int = 128  # global
    seed: int = 0
    strategy: str = "single"  # single, mirrored, multi_worker, tpu
    tpu: str = "local"
    learning_rate: float = 1e-3
    warmup_samples: int = 128_000
    decay_samples: int = 6_400_000
    decay_factor: float = 0.95
    adam_beta_1: float = 0.9
    adam_beta_2: float = 0.999
    adam_epsilon: float = 1e-6
    clip_norm: float = 0.1  # each example's gradient, global norm
    ema_decay: float = 0.999
    max_non_finite_steps: int = 10
    log_every: int = 10
    checkpoint_every: int = 1000
    keep_checkpoints: int = 5
    probe_steps: int = 0  # the first so many steps' crops are measured before and after training
    profile: str = ""  # "100:110": TensorBoard's profiler watches steps 100 to 109


@dataclass
class ValidationConfig:
    """Whole chains of ``data.validation`` under the averaged weights (supplement 1.11.7)."""

    every: int = 1000  # steps; without ``data.validation`` never
    max_length: int = 512  # residues; longer chains are left out
    num_recycle: int = 3  # extra passes, always as many
    patience: int = 0  # evaluations without a better lDDT-Cα that end training; 0 = never
    draw_chains: list[str] = field(default_factory=list)  # as pictures and structures
    draw_count: int = 2  # so many, the shortest, if ``draw_chains`` is empty


@dataclass
class RelaxConfig:
    """Restrained minimisation of a predicted structure (supplement 1.8.6)."""

    stiffness: float = 10.0  # kcal/mol/Å^2, of the restraint on every heavy atom
    tolerance: float = 2.39  # kcal/mol/nm, root mean square force at which a round ends
    max_rounds: int = 3  # each frees the residues that the one before left violated
    max_iterations: int = 0  # of a round; 0 = until the tolerance is met
    max_seconds: int = 600  # after which a round ends as it is; 0 = never
    platform: str = "auto"  # OpenMM's: CPU, CUDA, OpenCL, Reference; auto = the fastest there is


@dataclass
class DistillConfig:
    """Which predictions, and which of their residues, others may learn from (supplement 1.3)."""

    min_mean_plddt: float = 70.0  # of a chain
    min_residue_plddt: float = 50.0  # residues at or below it are masked
    min_mean_divergence: float = 0.5  # of a chain
    min_residue_divergence: float = 0.5  # the paper's; residues below it are masked
    max_separation: int = 128  # residues, of the pairs whose distances are judged


@dataclass
class PredictConfig:
    """Predicting structures; passes are ``model.num_recycle``, sizes ``data.size_buckets``."""

    seed: int = 0  # of the sampled alignment rows
    num_seeds: int = 1  # predictions of each model
    num_ensemble: int = 1  # samples of the alignment that are averaged in each pass
    recycle_tolerance: float = 0.0  # Å; recycling ends once Cα distances change less; 0 = never
    max_length: int = 2048  # residues; longer sequences are refused
    rank_by: str = "plddt"  # or ptm, which needs the predicted-aligned-error head
    plots: bool = True
    relax: RelaxConfig = field(default_factory=RelaxConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)


@dataclass
class Config:
    """Everything."""

    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

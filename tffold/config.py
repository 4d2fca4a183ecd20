"""The typed configuration: every setting, its type and its default, once.

A YAML file under ``configs/`` says only what differs from these defaults;
``tffold.config_file`` merges it and the command line's overrides strictly.
Defaults are the published AlphaFold 2 ``model_1`` (Jumper et al. 2021,
supplement 1.11-1.12, Table 4).  What else is known of a setting stands beside
its default, see ``tffold.rules``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tffold.rules import section, setting

STRATEGIES = ("single", "mirrored", "multi_worker", "tpu")
RANKINGS = ("plddt", "ptm", "iptm+ptm")
REMAT = ("none", "cheap", "all", "nested")


@dataclass
class AttentionConfig:
    """Gated multi-head attention; ``key_dim`` is the total over the heads."""

    num_head: int = setting(8, at_least=1)
    key_dim: int = setting(256, at_least=1)
    dropout_rate: float = setting(0.0, at_most=1)


@dataclass
class StackConfig:
    """One Evoformer-like stack (Algorithm 6 or 18)."""

    num_block: int = 48
    msa_row_attention: AttentionConfig = section(lambda: AttentionConfig(8, 256, 0.15))
    msa_column_attention: AttentionConfig = section(lambda: AttentionConfig(8, 256, 0.0))
    msa_transition_factor: int = setting(4, at_least=1)
    outer_product_channel: int = setting(32, at_least=1)
    triangle_multiplication_channel: int = setting(128, at_least=1)
    triangle_multiplication_dropout_rate: float = setting(0.25, at_most=1)
    triangle_attention: AttentionConfig = section(lambda: AttentionConfig(4, 128, 0.25))
    pair_transition_factor: int = setting(4, at_least=1)


@dataclass
class TemplateConfig:
    """Template embedding (Algorithms 16 and 17; Evans et al. 2021 where "multimer" is said)."""

    enabled: bool = True
    embed_torsion_angles: bool = True
    channel: int = setting(64, at_least=1)
    num_block: int = 2
    triangle_multiplication_channel: int = setting(64, at_least=1)
    triangle_multiplication_dropout_rate: float = setting(0.25, at_most=1)
    triangle_attention: AttentionConfig = section(lambda: AttentionConfig(4, 64, 0.25))
    pair_transition_factor: int = setting(2, at_least=1)
    pointwise_attention: AttentionConfig = section(lambda: AttentionConfig(4, 64))
    dgram_min_bin: float = 3.25
    dgram_max_bin: float = 50.75
    dgram_num_bins: int = setting(39, at_least=1)
    use_unit_vector: bool = False
    attend_first: bool = True  # in each block; False (multimer): multiply first
    # Multimer: pair features are embedded one by one and summed, the query's pair among them,
    # and say nothing of two chains; the mean over all slots stands for the pointwise attention.
    sum_embeddings: bool = False
    side_chains_only: bool = False  # rows hold χ angles alone, without their other names (multimer)


@dataclass
class RecyclingConfig:
    """Recycling embedder (Algorithm 32)."""

    min_bin: float = 3.25
    max_bin: float = 20.75
    num_bins: int = setting(15, at_least=1)


@dataclass
class StructureModuleConfig:
    """Structure module (Algorithms 20 to 25)."""

    num_layer: int = setting(8, at_least=1)
    num_head: int = setting(12, at_least=1)
    num_scalar_qk: int = setting(16, at_least=1)
    num_scalar_v: int = setting(16, at_least=1)
    num_point_qk: int = setting(4, at_least=1)
    num_point_v: int = setting(8, at_least=1)
    num_layer_in_transition: int = 3
    torsion_channel: int = setting(128, at_least=1)
    num_torsion_resblock: int = 2
    position_scale: float = 10.0  # Å per model unit
    # Multimer: frames kept as rotation matrices; queries, keys and values projected apart.
    rotation_matrices: bool = False
    separate_projections: bool = False
    dropout_rate: float = setting(0.1, at_most=1)


@dataclass
class HeadsConfig:
    """The heads (supplement 1.9)."""

    masked_msa_num_output: int = 23
    distogram_first_break: float = 2.3125  # Å
    distogram_last_break: float = 21.6875  # Å
    distogram_num_bins: int = setting(64, at_least=1)
    predicted_lddt_num_channel: int = setting(128, at_least=1)
    predicted_lddt_num_bins: int = setting(50, at_least=1)
    predicted_aligned_error: bool = False
    predicted_aligned_error_max_bin: float = 31.0  # Å
    predicted_aligned_error_num_bins: int = setting(64, at_least=1)


def _extra_msa_stack() -> StackConfig:
    return StackConfig(
        num_block=4,
        msa_row_attention=AttentionConfig(8, 64, 0.15),
        msa_column_attention=AttentionConfig(8, 64, 0.0),
    )


@dataclass
class ModelConfig:
    """The network (supplement 1.4 to 1.10)."""

    msa_channel: int = setting(256, at_least=1)
    pair_channel: int = setting(128, at_least=1)
    single_channel: int = setting(384, at_least=1)
    extra_msa_channel: int = setting(64, at_least=1)
    max_relative_feature: int = 32
    # Multimer: the relative encoding knows chains, entities and their copies.
    encode_chains: bool = False
    max_relative_chain: int = 2  # copies of an entity are told apart so far
    read_segment_breaks: bool = True  # the first column of target_feat (multimer: left out)
    num_recycle: int = 3  # extra passes; training draws 0..num_recycle
    evoformer: StackConfig = section(StackConfig)
    extra_msa_stack: StackConfig = section(_extra_msa_stack)
    template: TemplateConfig = section(TemplateConfig)
    recycling: RecyclingConfig = section(RecyclingConfig)
    structure_module: StructureModuleConfig = section(StructureModuleConfig)
    heads: HeadsConfig = section(HeadsConfig)
    zero_init: bool = True  # output layers start at zero (supplement 1.11.4)
    # The paper's outer product mean, for training from scratch; released weights want it off.
    outer_product_divides_first: bool = False
    outer_product_first: bool = False  # opens each block (multimer) instead of ending its MSA part
    # Triangle multiplication's two edges from one array of weights (multimer v3).
    fuse_projections: bool = False
    slice_mib: int = 32  # MiB of a module's largest intermediate at a time; 0 = all at once
    # What the backward pass recomputes (supplement 1.11.8): nothing; each block but for a few
    # results that are dear and small; each block; each block, and their inputs by groups.
    remat: str = setting("all", one_of=REMAT)
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
    # Complexes (Evans et al. 2021): FAPE within chains and between them apart, violations that know
    # chains. The batch holds asym_id then.
    by_chain: bool = False
    # Å, between chains. The paper's; DeepMind's published configuration has 1000.
    interface_fape_clamp_distance: float = 30.0
    interface_fape_loss_unit_distance: float = 20.0  # Å
    permute_chains: bool = False  # each chain is held against the copy that lies where it does
    chain_center_weight: float = 0.0  # pushes apart chains whose centres lie too near
    violation_tolerance_factor: float = 12.0  # standard deviations
    clash_overlap_tolerance: float = 1.5  # Å
    min_resolution: float = 0.1  # Å; confidence heads learn within these
    max_resolution: float = 3.0
    # Where the paper and DeepMind's code part, the defaults follow the code, but for complexes.
    # A residue's aligned error in its own frame, which is zero, has the first bin to itself. So it
    # is in DeepMind's multimer code; in its monomer code rounding decides, here False means never.
    zero_error_bin: bool = False
    violations_as_released: bool = False  # with by_chain: the faults of DeepMind's multimer code
    torsion_all_angles: bool = False  # True: all seven angles (1.9.1); else chi only
    scale_by_sqrt_length: bool = False  # True: total x sqrt(residues after crop) (1.9)


@dataclass
class FilterConfig:
    """Which chains of a set are used, and how often (supplement 1.2.5)."""

    max_resolution: float = 9.0  # Å, exclusive; unknown (0) passes; 0 = no bound
    # Share of the most frequent residue.
    max_single_residue_fraction: float = setting(0.8, at_most=1)
    min_length: int = 0  # residues, of all chains
    max_length: int = 0  # 0 = no bound
    min_chains: int = 0  # data.max_chains bounds them from above
    min_msa_rows: int = 0
    max_release_date: str = ""  # YYYY-MM-DD, inclusive; empty = no bound
    sample_by_length: bool = True  # accept with max(min(L, 512), 256) / 512
    # Accept with 1 / chains in its cluster; a complex where any of its chains would be.
    sample_by_cluster: bool = True


def _distillation_filter() -> FilterConfig:
    return FilterConfig(min_length=200, max_length=1024, min_msa_rows=200)  # supplement 1.3


def _complex_filter() -> FilterConfig:
    return FilterConfig(sample_by_length=False)


@dataclass
class DataConfig:
    """From shards to batches (supplement 1.2, 1.3; of complexes Evans et al. 2021)."""

    # Shard files, folders or patterns; one alone needs no list.
    train: list[str] = setting([], read_by_predict=False)
    distillation: list[str] = setting([], read_by_predict=False)  # of predicted structures
    complexes: list[str] = setting([], read_by_predict=False)  # with data.max_chains
    validation: list[str] = setting([], read_by_predict=False, free_on_resume=True)
    # Shards on stores that TensorFlow cannot read (s3://) are kept here, on each host.
    cache_dir: str = setting("~/.cache/tffold", read_by_predict=False, free_on_resume=True)
    cache_gb: int = setting(500, at_least=1, read_by_predict=False, free_on_resume=True)
    train_filter: FilterConfig = section(FilterConfig)
    distillation_filter: FilterConfig = section(_distillation_filter)
    complex_filter: FilterConfig = section(_complex_filter)
    # Share of data.complexes when there is another set.
    complex_probability: float = setting(0.5, at_most=1)
    # Share of predicted structures when there are both, among what is not of data.complexes.
    distillation_probability: float = setting(0.75, at_most=1)
    distillation_min_confidence: float = 50.0  # pLDDT; residues at or below it are masked
    distillation_max_msa: int = 1000  # rows
    crop_size: int = setting(256, at_least=1)
    # Of an assembly, for a network that encodes chains; those of more are left out. 0: single
    # chains alone.
    max_chains: int = setting(0, at_most=1000)
    # Residues of all chains; training leaves out assemblies of more.
    max_assembly_length: int = setting(4096, at_least=1)
    # Share of crops around an interface; the others are runs of residues of each chain.
    spatial_crop_probability: float = setting(0.5, at_most=1)
    clamp_prob: float = setting(0.9, at_most=1)  # share of examples with clamped backbone FAPE
    max_msa_clusters: int = setting(128, at_least=1)  # N_seq
    reduce_msa_clusters_by_max_templates: bool = True  # templates count among N_seq
    max_extra_msa: int = 1024
    max_templates: int = 4  # none are read where the model embeds none
    template_top: int = 20  # training draws from this many best hits
    block_deletion_num_blocks: int = 5
    block_deletion_fraction: float = setting(0.3, at_most=1)  # of the rows, each block
    masked_msa_replace_fraction: float = setting(0.15, at_most=1)
    masked_msa_uniform_prob: float = setting(0.1, at_most=1)
    masked_msa_profile_prob: float = setting(0.1, at_most=1)
    masked_msa_same_prob: float = setting(0.1, at_most=1)
    mask_msa_in_inference: bool = setting(True, free_on_resume=True)
    # Inference pads to the next one, or a multiple of the last.
    size_buckets: list[int] = setting(
        [64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048], at_least=1, free_on_resume=True
    )
    # skip: count, report, take another record
    on_corrupt: str = setting("raise", one_of=("raise", "skip"), read_by_predict=False)
    # Examples prepared at once; 0 = as many as pay.
    num_parallel: int = setting(0, read_by_predict=False, free_on_resume=True)
    prefetch: int = setting(2, read_by_predict=False, free_on_resume=True)  # batches
    # grpc://host:port of a dispatcher whose workers make the training examples; "" = this host.
    service: str = setting("", read_by_predict=False, free_on_resume=True, compared=False)


@dataclass
class TrainConfig:
    """Optimisation, schedule, checkpoints, monitoring (supplement 1.11)."""

    run_dir: str = setting("runs/default", free_on_resume=True, compared=False)
    init_from: str = setting("", free_on_resume=True)  # a checkpoint or DeepMind's .npz
    steps: int = setting(78125, free_on_resume=True)
    batch_size: int = setting(128, at_least=1)  # global
    seed: int = setting(0, at_least=-(2**63), below=2**63)
    strategy: str = setting("single", one_of=STRATEGIES)
    tpu: str = setting("local", free_on_resume=True, compared=False)
    learning_rate: float = 1e-3
    warmup_samples: int = 128_000
    decay_samples: int = 6_400_000
    decay_factor: float = 0.95
    adam_beta_1: float = setting(0.9, below=1)
    adam_beta_2: float = setting(0.999, below=1)
    adam_epsilon: float = 1e-6
    clip_norm: float = 0.1  # each example's gradient, global norm over the trained weights
    ema_decay: float = setting(0.999, below=1)
    # Patterns of parameter names, see ``tffold.train.selection``.
    freeze: list[str] = setting([])  # these weights stay as they are
    learning_rate_scale: list[str] = setting([])  # "pattern=factor"
    max_non_finite_steps: int = setting(10, at_least=1, free_on_resume=True)
    log_every: int = setting(10, at_least=1, free_on_resume=True)
    checkpoint_every: int = setting(1000, at_least=1, free_on_resume=True)  # steps
    # Besides: after the first step that ends so long after the last checkpoint; 0 = never.
    checkpoint_every_seconds: float = setting(0.0, free_on_resume=True)
    keep_checkpoints: int = setting(5, at_least=1, free_on_resume=True)
    # The first so many steps' crops are measured before and after training.
    probe_steps: int = setting(0, free_on_resume=True)
    # So often, and before each checkpoint, every replica's weights are compared, and where they
    # differ training goes back to the last checkpoint; 0 = never.
    check_replicas_every: int = setting(0, free_on_resume=True)
    # Replicas exchange gradients in bfloat16: half the traffic, each rounded to 8 bits.
    sum_in_bfloat16: bool = False
    # "100:110": TensorBoard's profiler watches steps 100 to 109.
    profile: str = setting("", free_on_resume=True)


@dataclass
class ValidationConfig:
    """Whole chains of ``data.validation`` under the averaged weights (supplement 1.11.7)."""

    every: int = setting(1000, at_least=1)  # steps; without ``data.validation`` never
    max_length: int = setting(512, at_least=1)  # residues; longer chains are left out
    num_recycle: int = 3  # extra passes, always as many
    patience: int = 0  # evaluations without a better lDDT-Cα that end training; 0 = never
    draw_chains: list[str] = setting([])  # as pictures and structures
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
    min_iptm: float = setting(0.5, at_most=1)  # of a complex


@dataclass
class PredictConfig:
    """Predicting structures; passes are ``model.num_recycle``, sizes ``data.size_buckets``."""

    seed: int = setting(0, at_least=-(2**63), below=2**63)  # of the sampled alignment rows
    num_seeds: int = 1  # predictions of each model
    num_ensemble: int = 1  # samples of the alignment that are averaged in each pass
    recycle_tolerance: float = 0.0  # Å; recycling ends once Cα distances change less; 0 = never
    max_length: int = 2048  # residues; longer sequences are refused
    # ptm and iptm+ptm (0.8 ipTM + 0.2 pTM; of one chain pTM) need the aligned-error head.
    rank_by: str = setting("plddt", one_of=RANKINGS)
    plots: bool = True
    relax: RelaxConfig = section(RelaxConfig)
    distill: DistillConfig = section(DistillConfig)


@dataclass
class Config:
    """Everything."""

    model: ModelConfig = section(ModelConfig)
    loss: LossConfig = section(LossConfig, compared=True)
    data: DataConfig = section(DataConfig)
    train: TrainConfig = section(TrainConfig, compared=True)
    predict: PredictConfig = section(PredictConfig, free_on_resume=True)
    validation: ValidationConfig = section(ValidationConfig, free_on_resume=True)

    @property
    def data_for_model(self) -> DataConfig:
        """``data`` as the model reads it: without templates where it embeds none."""
        if self.model.template.enabled:
            return self.data
        return replace(self.data, max_templates=0)

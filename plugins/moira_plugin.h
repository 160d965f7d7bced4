/*
 * MOIRA plugin interface, version 0: how the runtime finds, opens and drives kernels.
 *
 * A plugin is a shared object that exports the two functions at the end of this file. Rules of the border:
 *   - C11, fixed-width types; every struct starts with its size and only grows at the end.
 *   - No exceptions, no C++ types, no ownership across it: whoever allocates frees, through the same table.
 *   - Plugins create no threads and keep no globals; they compute on the host's team (moira_host.run_team).
 *   - All checking happens in op_prepare. A launch is one indirect call, allocates nothing, and returns a code.
 *   - Streams are in order. Pointers in launch arguments are device addresses unless said otherwise.
 *
 * What every op promises (MOIRA's first contract): the bits of an output row depend on that row's own inputs and on the
 * weights only, never on how many rows run with it, on the team size, or on the order in which experts arrive.
 *
 * Version 0 may still change between releases; it freezes as version 1 once a GPU plugin has lived in it.
 */
#ifndef MOIRA_PLUGIN_H
#define MOIRA_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MOIRA_ABI_MAJOR 0u
#define MOIRA_ABI_MINOR 3u

#define MOIRA_NAME_BYTES 32
#define MOIRA_TEXT_BYTES 256
#define MOIRA_GPUS_MAX 16

/* ---- codes ------------------------------------------------------------------------------------------------------ */

typedef int32_t moira_status;
enum {
    MOIRA_OK = 0,
    MOIRA_UNSUPPORTED = 1,      /* this plugin cannot do it; last_error says what is missing */
    MOIRA_INVALID_ARGUMENT = 2, /* the host broke the contract; last_error says where */
    MOIRA_OUT_OF_MEMORY = 3,
    MOIRA_LAUNCH_FAILED = 4,
    MOIRA_STEP_ERROR = 5,  /* a kernel set the step's error word: read it with stream_error */
    MOIRA_DEVICE_LOST = 6  /* nothing on this device will work again */
};

/* Error words that kernels set. The first one of a step wins, in list order, then by row or group. What could not be
 * computed is written as zeros, so that nothing depends on what lay there before (rope and kv_append skip the row). */
enum {
    MOIRA_ERROR_NONE = 0,
    MOIRA_ERROR_EXPERT_EMPTY = 1,        /* a group names an entry without an address, or no entry at all */
    MOIRA_ERROR_EXPERT_STALE = 2,        /* the entry's generation or layout is not the one that is expected */
    MOIRA_ERROR_TOKEN_OUT_OF_RANGE = 3,  /* a token id, or a position past the rope table */
    MOIRA_ERROR_PAGE_OUT_OF_RANGE = 4,   /* a page, a slot, or a context past its maximum */
    MOIRA_ERROR_INJECTED = 100           /* by fake_device, on request */
};

typedef struct moira_error_word {
    uint32_t code; /* MOIRA_ERROR_* */
    uint32_t op;   /* MOIRA_OP_* of the op that set it */
    int32_t row;   /* row, pair or group, or -1 */
    int32_t detail;
} moira_error_word;

/* ---- the machine, and the host's services ------------------------------------------------------------------------ */

enum {
    MOIRA_CPU_AVX2_FMA_F16C = 1u << 0,
    MOIRA_CPU_AVX512_F_BW_VL_DQ = 1u << 1,
    MOIRA_CPU_AVX512_BF16 = 1u << 2,
    MOIRA_CPU_AVX512_VBMI = 1u << 3,
    MOIRA_CPU_AVX512_VNNI = 1u << 4
};

/* A display or compute device of vendor 0x10de, as the PCI bus tells without any driver. */
typedef struct moira_gpu_facts {
    uint32_t pci_device;  /* the device id: stands for the chip, see the CUDA plugins' table */
    uint32_t pci_address; /* domain << 16 | bus << 8 | slot */
} moira_gpu_facts;

/* What the host found out about the machine, so that probing needs no driver call. */
typedef struct moira_device_facts {
    uint64_t struct_size;
    uint32_t cpu_features; /* MOIRA_CPU_* that both the processor and the operating system support */
    uint32_t cpu_cores;    /* usable by this process */
    uint32_t cuda_devices; /* device nodes present; 0 without a driver */
    uint32_t reserved;
    uint32_t nvidia_driver; /* major version of the loaded kernel module (580), 0: none is loaded or it does not say */
    uint32_t gpus;          /* entries of gpu, in the order of their addresses */
    moira_gpu_facts gpu[MOIRA_GPUS_MAX];
} moira_device_facts;

/* One member's view of the running team. */
typedef struct moira_team_member {
    uint32_t rank; /* 0 .. size - 1 */
    uint32_t size;
    void* team;    /* for moira_host.team_barrier */
} moira_team_member;

typedef void (*moira_team_function)(void* argument, const moira_team_member* member);

enum { MOIRA_LOG_DEBUG = 0, MOIRA_LOG_INFO = 1, MOIRA_LOG_WARNING = 2, MOIRA_LOG_ERROR = 3 };

/* The host's services. The table outlives every plugin object. All functions are thread-safe. */
typedef struct moira_host {
    uint64_t struct_size;
    uint32_t abi_major;
    uint32_t abi_minor;
    void* context;
    void* (*allocate)(void* context, uint64_t bytes, uint64_t alignment); /* NULL when there is no memory */
    void (*release)(void* context, void* address);
    void (*log)(void* context, int32_t level, const char* message);
    /* Runs function(argument, member) once on each of at most team_size_max members (0: all there are) and returns when
     * all have returned. The caller is member 0. Work must be split by rank in a way that does not change results. */
    void (*run_team)(void* context, uint32_t team_size_max, moira_team_function function, void* argument);
    /* Waits until every member of the running team has arrived. */
    void (*team_barrier)(void* context, const moira_team_member* member);
    uint32_t (*team_size)(void* context);
} moira_host;

/* What probing tells. score: higher runs first, 0 or less means "not on this machine". */
typedef struct moira_probe {
    uint64_t struct_size;
    uint32_t abi_major;
    uint32_t abi_minor;
    int32_t score;
    uint32_t reserved;
    char name[MOIRA_NAME_BYTES];         /* "cpu_avx512" */
    char device_class[MOIRA_NAME_BYTES]; /* "cpu": plugins of one class can read each other's buffers */
    char reason[MOIRA_TEXT_BYTES];       /* why this score, in words */
} moira_probe;

/* ---- tensors and weights ----------------------------------------------------------------------------------------- */

enum {
    MOIRA_TYPE_F32 = 0,
    MOIRA_TYPE_BF16 = 1,
    MOIRA_TYPE_F16 = 2,
    MOIRA_TYPE_F8_E4M3 = 3,
    MOIRA_TYPE_F8_E8M0 = 4, /* a scale type */
    MOIRA_TYPE_F4_E2M1 = 5  /* two per byte */
};

enum { MOIRA_SCALE_NONE = 0, MOIRA_SCALE_TENSOR = 1, MOIRA_SCALE_CHANNEL = 2, MOIRA_SCALE_BLOCK = 3 };
enum { MOIRA_ACTIVATION_KEEP = 0 /* weight-only: exact */, MOIRA_ACTIVATION_QUANTIZE = 1 /* lossy, opt-in */ };

/* How a weight matrix [n, k] is stored. */
typedef struct moira_quantization {
    uint32_t weight_type; /* MOIRA_TYPE_* */
    uint32_t scale_mode;  /* MOIRA_SCALE_* */
    uint32_t scale_type;  /* MOIRA_TYPE_*; ignored for MOIRA_SCALE_NONE */
    uint32_t block_n;     /* rows (output columns) per scale */
    uint32_t block_k;
    uint32_t activation;  /* MOIRA_ACTIVATION_* */
} moira_quantization;

/* ---- packing: from a checkpoint's row-major tensors to a plugin's own layout -------------------------------------- */

enum {
    MOIRA_PACK_GEMM = 0,   /* source: one weight [n, k] */
    MOIRA_PACK_EXPERT = 1, /* sources: gate [n, k], up [n, k], down [k, n], with k = hidden and n = inner size */
    MOIRA_PACK_MLA_KV = 2  /* source: kv_b_proj [heads * (key_dim + value_dim), kv_rank]; packed as the two absorbed matrices */
};

typedef struct moira_pack_desc {
    uint64_t struct_size;
    uint32_t kind; /* MOIRA_PACK_* */
    uint32_t n;    /* output columns; inner size; or heads * (key_dim + value_dim) */
    uint32_t k;    /* input columns; hidden size; or kv_rank */
    uint32_t heads;     /* MOIRA_PACK_MLA_KV only */
    uint32_t key_dim;   /* MOIRA_PACK_MLA_KV only: key dimensions without rotary part */
    uint32_t value_dim; /* MOIRA_PACK_MLA_KV only */
    uint32_t compute;   /* MOIRA_COMPUTE_* of the op that will read it */
    uint32_t reserved;
    moira_quantization quantization;
} moira_pack_desc;

typedef struct moira_pack_source {
    const void* weight; /* host address, row-major, tight; any byte alignment */
    const void* scales; /* host address, or NULL */
    const void* bias;   /* host address, f32, or NULL; for MOIRA_PACK_EXPERT (a gemm gets its bias with its arguments) */
} moira_pack_source;

typedef struct moira_pack_info {
    uint64_t struct_size;
    uint64_t packed_bytes; /* one contiguous block: gate, up, down, scales and biases inside */
    uint64_t alignment;    /* of that block */
    uint64_t scratch_bytes;
    uint32_t layout_id;    /* versioned: the same id always means the same bytes */
    uint32_t reserved;
} moira_pack_info;

/* ---- ops ---------------------------------------------------------------------------------------------------------
 * A *_desc fixes shapes and maxima and is checked once, in op_prepare. A *_args carries one launch.
 * "rows" are tokens of the step. Strides count elements of the row's type. Activations are f32, 64-byte aligned at
 * row 0; weights of norms and biases are f32.
 */
enum {
    MOIRA_OP_EMBEDDING = 0,
    MOIRA_OP_RMSNORM = 1,
    MOIRA_OP_ROPE = 2,
    MOIRA_OP_KV_APPEND = 3,
    MOIRA_OP_ATTENTION_GQA = 4,
    MOIRA_OP_ATTENTION_MLA = 5,
    MOIRA_OP_GEMM = 6,
    MOIRA_OP_ROUTER_TOPK = 7,
    MOIRA_OP_EXPERT_FFN = 8,
    MOIRA_OP_COMBINE = 9,
    MOIRA_OP_EXPERT_GROUPS = 10,
    MOIRA_OP_COUNT = 11
};

/* Every op descriptor begins with this. */
typedef struct moira_op_header {
    uint64_t struct_size; /* of the whole descriptor */
    uint32_t op;          /* MOIRA_OP_* */
    uint32_t rows_max;    /* the most rows that one launch may carry */
} moira_op_header;

enum {
    MOIRA_COMPUTE_F32 = 0,  /* multiply and add in float32 (routers and whatever must not lose bits) */
    MOIRA_COMPUTE_AUTO = 1, /* the plugin's best: may round activations to the weight's type before multiplying */
    MOIRA_COMPUTE_LIBRARY = 2 /* gemm only, an offer: as AUTO, by the vendor's library and in its layout of weights; the
                               * answer to op_query says whether rows are exact, and has a numerics_id of its own */
};

/* out[r] = table[token_ids[r]], widened to f32. table: [vocabulary, width], row-major, as stored. */
typedef struct moira_embedding_desc {
    moira_op_header header;
    uint32_t vocabulary;
    uint32_t width;
    uint32_t weight_type;
    uint32_t reserved;
} moira_embedding_desc;
typedef struct moira_embedding_args {
    uint32_t rows;
    uint32_t reserved;
    const int32_t* token_ids;
    const void* table;
    float* out; /* [rows, width], tight */
} moira_embedding_args;

/* out[r] = in[r] / sqrt(mean(in[r]^2) + epsilon) * weight   (Zhang and Sennrich 2019). in and out may be the same. */
typedef struct moira_rmsnorm_desc {
    moira_op_header header;
    uint32_t width;
    float epsilon;
} moira_rmsnorm_desc;
typedef struct moira_rmsnorm_args {
    uint32_t rows;
    uint32_t groups;        /* normalised vectors per row, each `width` long, sharing the weight (per-head norms); 1 otherwise */
    const float* in;
    float* out;
    const float* weight;    /* [width] */
    uint64_t in_stride;
    uint64_t out_stride;
    uint64_t group_stride;  /* between the vectors of one row, in and out alike */
} moira_rmsnorm_args;

/* Rotates `width` dimensions of every head in place by the angles of the row's position (Su et al. 2021).
 * interleaved: pairs are (2i, 2i + 1); otherwise (i, i + width / 2). */
typedef struct moira_rope_desc {
    moira_op_header header;
    uint32_t heads;
    uint32_t width;
    uint32_t interleaved;
    uint32_t positions; /* rows of the table */
} moira_rope_desc;
typedef struct moira_rope_args {
    uint32_t rows;
    uint32_t reserved;
    float* x;               /* first rotated dimension of head 0 of row 0 */
    uint64_t row_stride;
    uint64_t head_stride;
    const int32_t* positions; /* [rows] */
    const float* table;       /* [positions, width]: width / 2 cosines, then width / 2 sines, scaled as the model asks */
} moira_rope_args;

/* Writes one vector per row, in the cache's type, into its place in the paged KV cache. All rows of a step, those of the
 * same prompt too, attend to what was written, never to what was rounded away. */
typedef struct moira_kv_append_desc {
    moira_op_header header;
    uint32_t width;
    uint32_t kv_type;  /* MOIRA_TYPE_F32, or MOIRA_TYPE_BF16: rounded to nearest, ties to even */
    uint32_t slots;    /* token slots in the pool: pages * page_tokens */
    uint32_t reserved;
} moira_kv_append_desc;
typedef struct moira_kv_append_args {
    uint32_t rows;
    uint32_t reserved;
    const float* in;
    uint64_t in_stride;
    const int32_t* slots;  /* [rows]: page * page_tokens + position within the page */
    void* pool;            /* this layer's pool, already offset to the vector's place within a token slot */
    uint64_t slot_stride;
} moira_kv_append_args;

/* One row of attention, of any role (prefill, decode, verify). */
typedef struct moira_attention_row {
    int32_t position;          /* of the row's own token */
    int32_t context_length;    /* token slots that it may see: positions 0 .. context_length - 1 */
    int32_t page_table_offset; /* where its sequence's pages begin in page_table */
    int32_t parent;            /* row index of the parent in a candidate tree, or -1 */
} moira_attention_row;

/* The paged cache that the rows read. */
typedef struct moira_kv_view {
    const void* pool;          /* this layer's pool */
    uint64_t slot_stride;      /* elements of kv_type between token slots */
    uint64_t value_offset;     /* GQA: elements from a slot's keys to its values */
    const int32_t* page_table; /* page indices of all sequences of the step, one after another */
} moira_kv_view;

/* softmax(scale * q k^T) v over paged keys and values; query head h reads KV head h / (heads / kv_heads). */
typedef struct moira_attention_gqa_desc {
    moira_op_header header;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_dim;
    uint32_t kv_type;
    uint32_t page_tokens;
    uint32_t pages;       /* in the pool */
    uint32_t context_max;
    uint32_t window;      /* sliding window in tokens, 0: none */
    uint32_t sinks;       /* 1: args.sinks holds one logit per head */
    float scale;
} moira_attention_gqa_desc;

/* Multi-head latent attention in absorbed form (DeepSeek-V2, section 2.1): queries are projected into the latent space,
 * scores are q_latent . c + q_rope . k_rope, and the weighted latent is projected to values. A token slot holds the
 * latent [kv_rank], then the rotated key [rope_dim]. */
typedef struct moira_attention_mla_desc {
    moira_op_header header;
    uint32_t heads;
    uint32_t key_dim;     /* query and key dimensions without rotary part */
    uint32_t rope_dim;
    uint32_t value_dim;
    uint32_t kv_rank;
    uint32_t kv_type;
    uint32_t page_tokens;
    uint32_t pages;
    uint32_t context_max;
    float scale;
    moira_quantization quantization; /* of kv_b_proj as packed */
} moira_attention_mla_desc;

typedef struct moira_attention_args {
    uint32_t rows;
    uint32_t page_table_entries;
    const float* q;               /* GQA: [rows, heads, head_dim]; MLA: [rows, heads, key_dim + rope_dim], rotated */
    uint64_t q_stride;
    const moira_attention_row* row_table; /* [rows] */
    moira_kv_view kv;
    const void* weight;           /* MLA: packed kv_b_proj; GQA: NULL */
    const float* sinks;
    float* out;                   /* [rows, heads, head_dim or value_dim] */
    uint64_t out_stride;
    void* workspace;              /* 64-byte aligned, as are all workspaces */
} moira_attention_args;

/* out = x * weight^T (+ bias), or out += that when accumulate is set. */
typedef struct moira_gemm_desc {
    moira_op_header header;
    uint32_t n;
    uint32_t k;
    uint32_t compute;    /* MOIRA_COMPUTE_* */
    uint32_t accumulate;
    uint32_t has_bias;
    uint32_t reserved;
    moira_quantization quantization;
} moira_gemm_desc;
typedef struct moira_gemm_args {
    uint32_t rows;
    uint32_t reserved;
    const float* x;
    uint64_t x_stride;
    const void* weight; /* packed with MOIRA_PACK_GEMM */
    const float* bias;
    float* out;
    uint64_t out_stride;
    void* workspace;
} moira_gemm_args;

enum { MOIRA_SCORE_SOFTMAX = 0, MOIRA_SCORE_SIGMOID = 1, MOIRA_SCORE_SQRT_SOFTPLUS = 2 };

/* Chooses top_k experts per row and their weights. choice = score + bias; with groups, only the groups_kept best groups
 * (by the sum of their two best choices) can be chosen from. ids come in falling order of choice, equal ones by lower
 * id; weights are the scores (without bias), divided by their sum when normalize is set, times scale. */
typedef struct moira_router_topk_desc {
    moira_op_header header;
    uint32_t experts;
    uint32_t top_k;
    uint32_t scoring; /* MOIRA_SCORE_* */
    uint32_t has_bias;
    uint32_t groups;  /* 1: no groups */
    uint32_t groups_kept;
    uint32_t normalize;
    float scale;
} moira_router_topk_desc;
typedef struct moira_router_topk_args {
    uint32_t rows;
    uint32_t reserved;
    const float* logits; /* [rows, experts] */
    uint64_t logits_stride;
    const float* bias;   /* [experts] or NULL */
    int32_t* ids;        /* [rows, top_k] */
    float* weights;      /* [rows, top_k] */
} moira_router_topk_args;

enum { MOIRA_FFN_SILU_GATED = 0, MOIRA_FFN_CLAMPED_SWIGLU = 1 };

/* Where one expert's packed weights are, or that they are not there (address 0). One entry per expert of the layer. */
typedef struct moira_expert_entry {
    uint64_t address;    /* of the slab, in the layout that MOIRA_PACK_EXPERT gave; 0: not resident */
    uint32_t generation; /* changes whenever the slot gets another expert */
    uint32_t layout_id;  /* as pack_query told; 0: not stated */
} moira_expert_entry;

/* The pairs of one expert: pairs[pair_begin .. pair_begin + pair_count). */
typedef struct moira_expert_group {
    uint32_t expert;     /* index into the table */
    uint32_t generation; /* expected */
    uint32_t pair_begin;
    uint32_t pair_count;
} moira_expert_group;

/* One (token, rank): reads x[row], writes out[out_row]. */
typedef struct moira_expert_pair {
    int32_t row;
    int32_t out_row;
} moira_expert_pair;

/* Sorts the (token, rank) pairs of a step by expert, in device memory, for an expert_ffn that counts on it: one group
 * per expert that was chosen, in rising order of expert; its pairs in rising order of row, then rank, one group behind
 * the other. A pair reads row `row` and writes row row * top_k + rank. A negative id is a rank that is left out: it has
 * no pair. An id of `experts` or more sets MOIRA_ERROR_EXPERT_EMPTY (row: its token's) and has no pair either. What is
 * left of pair_table gets {-1, -1}. A launch without rows writes nothing. */
typedef struct moira_expert_groups_desc {
    moira_op_header header; /* rows_max: tokens */
    uint32_t experts;
    uint32_t top_k;
} moira_expert_groups_desc;
typedef struct moira_expert_groups_args {
    uint32_t rows;
    uint32_t generation_stride;   /* u32s from one expert's generation to the next's */
    const int32_t* ids;           /* [rows, top_k] */
    const uint32_t* generations;  /* [experts]: what each group expects. The layer's own table, read when the op runs:
                                   * &table[0].generation, with a stride of 4 */
    moira_expert_group* group_table; /* [experts], of which group_count are written */
    moira_expert_pair* pair_table;   /* [rows * top_k] */
    uint32_t* group_count;           /* [1] */
    void* workspace;
} moira_expert_groups_args;

/* out[pair] = down(act(gate(x)) * up(x)) for every pair of every group; can be launched on any subset of experts.
 * Dense layers and shared experts are the same op with one entry. */
typedef struct moira_expert_ffn_desc {
    moira_op_header header; /* rows_max: the most pairs of one launch */
    uint32_t hidden;
    uint32_t inner;
    uint32_t experts;
    uint32_t activation; /* MOIRA_FFN_* */
    float alpha;         /* MOIRA_FFN_CLAMPED_SWIGLU */
    float limit;
    moira_quantization quantization;
} moira_expert_ffn_desc;
typedef struct moira_expert_ffn_args {
    uint32_t groups;
    uint32_t pairs;
    const float* x; /* [rows, hidden] */
    uint64_t x_stride;
    const moira_expert_entry* table;       /* [experts] */
    const moira_expert_group* group_table; /* [groups] */
    const moira_expert_pair* pair_table;   /* [pairs] */
    float* out;
    uint64_t out_stride;
    void* workspace;
    /* NULL, or the device address of the number of groups, at most `groups`, read when the op runs: `groups` and `pairs`
     * are maxima then, and pairs outside all groups are not looked at. */
    const uint32_t* group_count;
} moira_expert_ffn_args;

/* residual[r] += (sum over ranks, in rank order, of weights[r, rank] * expert_out[r * top_k + rank]) + shared[r]
 * A rank of weight 0 is left out: its output may never have been written and may hold anything, NaN included. */
typedef struct moira_combine_desc {
    moira_op_header header;
    uint32_t width;
    uint32_t top_k;      /* 0: only shared */
    uint32_t has_shared;
    uint32_t reserved;
} moira_combine_desc;
typedef struct moira_combine_args {
    uint32_t rows;
    uint32_t reserved;
    const float* expert_out; /* [rows * top_k, width] or NULL */
    const float* weights;    /* [rows, top_k] or NULL */
    const float* shared;     /* [rows, width] or NULL */
    float* residual;         /* [rows, width] */
} moira_combine_args;

/* Answer to "can you run this?". */
typedef struct moira_op_support {
    uint64_t struct_size;
    int32_t score;            /* <= 0: no */
    uint32_t row_exact;       /* keeps the promise at the top of this file */
    uint32_t thread_exact;    /* the same bits for any team size */
    uint32_t kv_type_wanted;  /* kv_append and attention: the MOIRA_TYPE_* of keys and values that the plugin would rather
                               * have; a host that can should ask again with it */
    char numerics_id[MOIRA_NAME_BYTES]; /* equal ids give equal bits */
    char reason[MOIRA_TEXT_BYTES];      /* what is required, supported or missing */
} moira_op_support;

/* ---- the plugin's tables ------------------------------------------------------------------------------------------ */

typedef struct moira_device moira_device;
typedef struct moira_stream moira_stream;
typedef struct moira_event moira_event;
typedef struct moira_buffer moira_buffer;
typedef struct moira_op moira_op;
typedef struct moira_graph moira_graph;

/* How much memory the device has of its own. */
typedef struct moira_memory_info {
    uint64_t struct_size;
    uint64_t bytes_total; /* 0: the device computes in the host's memory and has none of its own */
    uint64_t bytes_free;
} moira_memory_info;

typedef struct moira_launch {
    const moira_op* op;
    const void* args; /* host address of the op's *_args; read before launch returns */
} moira_launch;

typedef struct moira_plugin_api {
    uint64_t struct_size;
    uint32_t abi_major;
    uint32_t abi_minor;

    /* Writes the last error of the calling thread, cut to `bytes`, always terminated. */
    void (*last_error)(char* text, uint64_t bytes);

    moira_status (*device_open)(const moira_host* host, uint32_t index, moira_device** device);
    void (*device_close)(moira_device* device);

    moira_status (*buffer_create)(moira_device* device, uint64_t bytes, uint64_t alignment, moira_buffer** buffer);
    void (*buffer_destroy)(moira_buffer* buffer);
    void* (*buffer_address)(moira_buffer* buffer); /* device address */

    moira_status (*stream_create)(moira_device* device, moira_stream** stream);
    void (*stream_destroy)(moira_stream* stream);
    /* MOIRA_OK, or MOIRA_STEP_ERROR when an error word waits; either way the stream is idle then. */
    moira_status (*stream_synchronize)(moira_stream* stream);
    /* Copies the step's error word and clears it. Call after stream_synchronize. */
    moira_status (*stream_error)(moira_stream* stream, moira_error_word* word);
    /* In stream order. Host memory may be reused when the stream has been synchronised. */
    moira_status (*copy_to_device)(moira_stream* stream, void* device_address, const void* host_address, uint64_t bytes);
    moira_status (*copy_to_host)(moira_stream* stream, void* host_address, const void* device_address, uint64_t bytes);

    moira_status (*event_create)(moira_device* device, moira_event** event);
    void (*event_destroy)(moira_event* event);
    moira_status (*event_record)(moira_stream* stream, moira_event* event);
    moira_status (*event_wait)(moira_stream* stream, moira_event* event); /* the stream waits, not the caller */
    moira_status (*event_done)(moira_event* event, uint32_t* done);

    moira_status (*op_query)(moira_device* device, const moira_op_header* desc, moira_op_support* support);
    /* workspace_bytes: what every launch of this op needs at args.workspace, 64-byte aligned, owned by the host. */
    moira_status (*op_prepare)(moira_device* device, const moira_op_header* desc, moira_op** op, uint64_t* workspace_bytes);
    void (*op_destroy)(moira_op* op);
    /* Runs the list in order. */
    moira_status (*launch)(moira_stream* stream, const moira_launch* list, uint32_t count);

    /* Host memory in, host memory out; thread-safe; `scratch` is the caller's. sources: 1 or 3, see MOIRA_PACK_*. */
    moira_status (*pack_query)(moira_device* device, const moira_pack_desc* desc, moira_pack_info* info);
    moira_status (*pack)(moira_device* device, const moira_pack_desc* desc, const moira_pack_source* sources,
                         void* packed, void* scratch);
    moira_status (*unpack)(moira_device* device, const moira_pack_desc* desc, const void* packed,
                           void* const* weights, void* scratch);

    moira_status (*memory_info)(moira_device* device, moira_memory_info* info);
    /* Host memory that the device's copy engine reads and writes directly (page-locked where that exists): copies from
     * it run beside the caller. buffer_address gives a host address; destroyed like any buffer, when no queued copy
     * uses it any more. */
    moira_status (*host_buffer_create)(moira_device* device, uint64_t bytes, uint64_t alignment, moira_buffer** buffer);

    /* Graphs: a list of launches that is recorded once and replayed in one call. MOIRA_UNSUPPORTED from graph_begin:
     * there are none here, launch op by op. Rules:
     *   - From graph_begin to graph_end, launches on the stream are recorded and not run. Nothing else may be asked of
     *     the stream then (no synchronise, copy, event, or second graph_begin), and nothing may be allocated, prepared
     *     or destroyed on the device by the recording thread: MOIRA_INVALID_ARGUMENT, and graph_end fails too.
     *   - Arguments are read when they are recorded: the same addresses and counts in every replay. What is to differ
     *     (tokens, positions, slots, pages, expert entries, group counts) lies in device memory behind those addresses.
     *   - The graph borrows the ops and all memory that its launches name; they outlive its last replay.
     *   - A replay is a launch: in order on the stream that recorded it, which is the only one that may replay it;
     *     kernels that meet an error set the step's error word, in list order as ever.
     * graph_end: the stream records no more, whatever it returns. graph_destroy: when no queued replay is left, before
     * its stream goes. */
    moira_status (*graph_begin)(moira_stream* stream);
    moira_status (*graph_end)(moira_stream* stream, moira_graph** graph);
    moira_status (*graph_launch)(moira_stream* stream, moira_graph* graph);
    void (*graph_destroy)(moira_graph* graph);
} moira_plugin_api;

/* The two exported symbols. Probing has no side effects. Opening is called for plugins that won an op. */
typedef moira_status (*moira_plugin_probe_function)(const moira_device_facts* facts, moira_probe* probe);
typedef moira_status (*moira_plugin_open_function)(const moira_plugin_api** api);

#define MOIRA_PLUGIN_PROBE_SYMBOL "moira_plugin_probe_v0"
#define MOIRA_PLUGIN_OPEN_SYMBOL "moira_plugin_open_v0"

#ifdef __cplusplus
}
#endif

#endif

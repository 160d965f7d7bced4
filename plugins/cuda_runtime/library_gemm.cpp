#include "plugins/cuda_runtime/library_gemm.hpp"

#include "kernels/packed_layout.hpp"
#include "plugins/cuda_runtime/cuda_runtime.hpp"

namespace moira {

namespace {

constexpr uint32_t candidates_max = 16;
constexpr uint32_t usual_rows = 512;       // the size that the algorithm is chosen for: a chunk of a prompt
constexpr uint32_t address_alignment = 64; // packed weights, workspaces; 16 for what the host gives
constexpr int refused_launch = 1;          // cudaErrorInvalidValue
constexpr int failed_launch = 719;         // cudaErrorLaunchFailure

// One library's objects of a product with `rows` rows; whatever was made is destroyed with it. The matrices are
// column-major for the library: out^T [n, rows] = weight [n, k] x^T [k, rows].
class product_objects {
public:
    product_objects(const cublas_calls& calls, uint32_t n, uint32_t k, uint32_t rows, uint64_t out_stride)
        : calls_(calls) {
        const uint32_t transposed = cublas::transposed;
        code = calls.product_create(&product, cublas::compute_f32, cublas::type_f32);
        if (code == 0)
            code = calls.product_set(product, cublas::product_transpose_a, &transposed, sizeof transposed);
        make(weight, cublas::type_bf16, k, n, k);
        make(x, cublas::type_bf16, k, rows, k);
        make(out, cublas::type_f32, n, rows, out_stride);
    }
    ~product_objects() {
        for (void* layout : {weight, x, out})
            if (layout)
                (void)calls_.layout_destroy(layout);
        if (product)
            (void)calls_.product_destroy(product);
    }
    product_objects(const product_objects&) = delete;
    product_objects& operator=(const product_objects&) = delete;

    // The address counts only when the product runs.
    void add_bias(const float* bias) {
        const uint32_t epilogue = cublas::epilogue_bias;
        if (code == 0)
            code = calls_.product_set(product, cublas::product_epilogue, &epilogue, sizeof epilogue);
        if (code == 0)
            code = calls_.product_set(product, cublas::product_bias_address, &bias, sizeof bias);
    }

    int code = 0;
    void* product = nullptr;
    void* weight = nullptr;
    void* x = nullptr;
    void* out = nullptr;

private:
    void make(void*& layout, int type, uint64_t rows, uint64_t columns, uint64_t stride) {
        if (code == 0)
            code = calls_.layout_create(&layout, type, rows, columns, static_cast<int64_t>(stride));
    }
    const cublas_calls& calls_;
};

int make_preference(const cublas_calls& calls, void** preference) {
    const uint64_t workspace = library_workspace_bytes;
    const uint32_t reduction = cublas::reduction_none;
    int code = calls.preference_create(preference);
    if (code == 0)
        code = calls.preference_set(*preference, cublas::preference_workspace, &workspace, sizeof workspace);
    if (code == 0)
        code = calls.preference_set(*preference, cublas::preference_reduction, &reduction, sizeof reduction);
    const uint32_t alignments[] = {address_alignment, address_alignment, 16, 16}; // weights, x, out as C and as D
    for (int operand = 0; operand < 4 && code == 0; ++operand)
        code = calls.preference_set(*preference, cublas::preference_alignment_a + operand, &alignments[operand],
                                    sizeof alignments[operand]);
    return code;
}

// Sums of one output must be made by one thread block in one order.
bool is_whole(const cublas_calls& calls, const cublas_algorithm& algorithm) {
    int32_t splits = 0;
    uint32_t reduction = ~0u;
    uint64_t written = 0;
    return calls.algorithm_get(&algorithm, cublas::algorithm_split_k, &splits, sizeof splits, &written) == 0 &&
           calls.algorithm_get(&algorithm, cublas::algorithm_reduction, &reduction, sizeof reduction, &written) == 0 &&
           splits <= 1 && reduction == uint32_t(cublas::reduction_none);
}

// Whether the algorithm also takes the smallest number of rows, within the same workspace.
bool takes_one_block(const library_gemm& library, const library_product& wanted, const cublas_algorithm& algorithm) {
    product_objects block(*library.calls, wanted.n, wanted.k, library_block_rows, wanted.n);
    if (wanted.has_bias)
        block.add_bias(nullptr);
    cublas_candidate result{};
    return block.code == 0 &&
           library.calls->check(library.handle, block.product, block.weight, block.x, block.out, block.out, &algorithm,
                                &result) == 0 &&
           result.workspace_bytes <= library_workspace_bytes;
}

moira_status choose_algorithm(library_gemm& library, library_product& wanted) {
    const cublas_calls& calls = *library.calls;
    product_objects usual(calls, wanted.n, wanted.k, usual_rows, wanted.n);
    if (wanted.has_bias)
        usual.add_bias(nullptr);
    void* preference = nullptr;
    int code = usual.code ? usual.code : make_preference(calls, &preference);
    cublas_candidate found[candidates_max] = {};
    int count = 0;
    if (code == 0)
        code = calls.find(library.handle, usual.product, usual.weight, usual.x, usual.out, usual.out, preference,
                          candidates_max, found, &count);
    if (preference)
        (void)calls.preference_destroy(preference);
    if (code)
        return report(MOIRA_UNSUPPORTED, "cuBLASLt found no algorithm for a product of %u x %u: %s", wanted.n, wanted.k,
                      calls.status_text(code));
    for (int index = 0; index < count && index < int(candidates_max); ++index) {
        const cublas_candidate& each = found[index];
        if (each.state != 0 || each.workspace_bytes > library_workspace_bytes || !is_whole(calls, each.algorithm) ||
            !takes_one_block(library, wanted, each.algorithm))
            continue;
        wanted.algorithm = each.algorithm;
        return MOIRA_OK;
    }
    return report(MOIRA_UNSUPPORTED,
                  "none of cuBLASLt's %d algorithms for a product of %u x %u does without split-K in %llu MiB for any "
                  "number of rows",
                  count, wanted.n, wanted.k, static_cast<unsigned long long>(library_workspace_bytes >> 20));
}

moira_status open_library(moira_device& device) {
    library_gemm& library = device.library;
    if (library.handle)
        return MOIRA_OK;
    char reason[MOIRA_TEXT_BYTES] = "this plugin has no cuBLASLt";
    const cublas_calls* calls = device.calls->load_library(reason, sizeof reason);
    if (!calls)
        return report(MOIRA_UNSUPPORTED, "%s", reason);
    void* handle = nullptr;
    if (const int code = calls->create(&handle))
        return report(MOIRA_UNSUPPORTED, "cuBLASLt does not start: %s", calls->status_text(code));
    library.calls = calls;
    library.handle = handle;
    return MOIRA_OK;
}

struct workspace_layout {
    uint64_t x;    // [rows padded, k] BF16
    uint64_t tail; // [library_block_rows, n] float32
    uint64_t library;
    uint64_t bytes;
};

workspace_layout layout_of(const moira_gemm_desc& desc) {
    workspace_layout layout{};
    layout.tail = round_up(uint64_t{desc.header.rows_max}, library_block_rows) * desc.k * 2;
    layout.library = layout.tail + uint64_t{library_block_rows} * desc.n * sizeof(float);
    layout.bytes = layout.library + library_workspace_bytes;
    return layout;
}

// Everything of one launch.
class library_launch {
public:
    library_launch(moira_stream& stream, const library_product& product, const moira_gemm_desc& desc,
                   const moira_gemm_args& args)
        : stream_(stream), calls_(*stream.device->calls), product_(product), desc_(desc), args_(args),
          layout_(layout_of(desc)), workspace_(static_cast<char*>(args.workspace)) {}

    int run() {
        const uint32_t whole = args_.rows / library_block_rows * library_block_rows;
        int code = round_rows();
        if (code == 0 && whole > 0)
            code = multiply(0, whole, args_.out, args_.out_stride);
        return code == 0 && whole < args_.rows ? run_tail(whole) : code;
    }

private:
    char* x_row(uint32_t row) const { return workspace_ + layout_.x + uint64_t{row} * desc_.k * 2; }

    int round_rows() {
        const cuda_launch launch{stream_.stream, nullptr, stream_.device->description.multiprocessors, 0};
        const int code = stream_.device->plugin->kernels().round_rows(args_.x, args_.x_stride, args_.rows, desc_.k,
                                                                      reinterpret_cast<uint16_t*>(x_row(0)), launch);
        const uint64_t padded = round_up(args_.rows, library_block_rows);
        if (code || padded == args_.rows)
            return code;
        return calls_.fill(x_row(args_.rows), 0, (padded - args_.rows) * desc_.k * 2, stream_.stream);
    }

    // The last rows, as a whole block in memory of its own: the host's has no room behind them.
    int run_tail(uint32_t first) {
        auto* tail = reinterpret_cast<float*>(workspace_ + layout_.tail);
        float* const out = args_.out + uint64_t{first} * args_.out_stride;
        const uint64_t row_bytes = uint64_t{desc_.n} * sizeof(float);
        const uint64_t out_bytes = args_.out_stride * sizeof(float);
        const uint32_t rows = args_.rows - first;
        int code = 0;
        if (desc_.accumulate) {
            // What lies behind the rows is multiplied by 1 as well: it must be a number.
            code = calls_.fill(tail, 0, library_block_rows * row_bytes, stream_.stream);
            if (code == 0)
                code = calls_.copy_rows(tail, row_bytes, out, out_bytes, row_bytes, rows, stream_.stream);
        }
        if (code == 0)
            code = multiply(first, library_block_rows, tail, desc_.n);
        return code ? code : calls_.copy_rows(out, out_bytes, tail, row_bytes, row_bytes, rows, stream_.stream);
    }

    int multiply(uint32_t first, uint32_t rows, float* out, uint64_t out_stride) {
        const library_gemm& library = stream_.device->library;
        product_objects objects(*library.calls, desc_.n, desc_.k, rows, out_stride);
        if (desc_.has_bias)
            objects.add_bias(args_.bias);
        const float alpha = 1.0f;
        const float beta = desc_.accumulate ? 1.0f : 0.0f;
        int code = objects.code;
        if (code == 0)
            code = library.calls->multiply(library.handle, objects.product, &alpha, args_.weight, objects.weight,
                                           x_row(first), objects.x, &beta, out, objects.out, out, objects.out,
                                           &product_.algorithm, workspace_ + layout_.library, library_workspace_bytes,
                                           stream_.stream);
        constexpr int execution_failed = 13; // CUBLAS_STATUS_EXECUTION_FAILED
        return code == 0 ? 0 : code == execution_failed ? failed_launch : refused_launch;
    }

    moira_stream& stream_;
    const cuda_calls& calls_;
    const library_product& product_;
    const moira_gemm_desc& desc_;
    const moira_gemm_args& args_;
    workspace_layout layout_;
    char* workspace_;
};

} // namespace

const char* library_gemm_limit(const moira_gemm_desc& desc) {
    if (desc.quantization.weight_type != MOIRA_TYPE_BF16 || desc.quantization.scale_mode != MOIRA_SCALE_NONE)
        return "by cuBLASLt takes BF16 weights without scales only";
    if (desc.n % 8 != 0 || desc.k % 8 != 0)
        return "by cuBLASLt takes n and k that are multiples of 8";
    if (desc.n > library_columns_max)
        return "by cuBLASLt takes at most 65,536 columns: the memory for its last rows is bounded";
    return nullptr;
}

uint64_t library_gemm_workspace(const moira_gemm_desc& desc) {
    return layout_of(desc).bytes;
}

// {compute capability, first release, last release}: a row is added when tools/gpu_check has found the rows of that
// release equal at M = 1 to 33, 128 and 512 on that chip. None has been yet.
bool library_rows_proven(uint32_t, uint64_t) {
    return false;
}

moira_status find_library_product(moira_device& device, const moira_gemm_desc& desc, const library_product** product) {
    library_gemm& library = device.library;
    const std::scoped_lock lock(library.mutex);
    if (const moira_status status = open_library(device))
        return status;
    const bool has_bias = desc.has_bias != 0;
    for (const library_product& each : library.products)
        if (each.n == desc.n && each.k == desc.k && each.has_bias == has_bias) {
            *product = &each;
            return MOIRA_OK;
        }
    library_product wanted{desc.n, desc.k, has_bias, {}};
    if (const moira_status status = choose_algorithm(library, wanted))
        return status;
    *product = &library.products.emplace_back(wanted);
    return MOIRA_OK;
}

int launch_library_gemm(moira_stream& stream, const library_product& product, const moira_gemm_desc& desc,
                        const moira_gemm_args& args) {
    // Vectors of four floats; the algorithm was chosen for them.
    if (args.out_stride % 4 != 0 || reinterpret_cast<uintptr_t>(args.out) % 16 != 0)
        return refused_launch;
    return library_launch(stream, product, desc, args).run();
}

void close_library(library_gemm& library) {
    if (library.handle)
        (void)library.calls->destroy(library.handle);
    library.handle = nullptr;
}

} // namespace moira

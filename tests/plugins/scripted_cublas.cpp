#include "tests/plugins/scripted_cublas.hpp"

#include "tests/plugins/scripted_cuda.hpp"

#include <bit>
#include <cstring>

namespace moira {

scripted_library& scripted_cublas() {
    static scripted_library library;
    return library;
}

namespace {

struct product_object {
    std::uint32_t transpose_a = 0;
    std::uint32_t epilogue = 1;
    const float* bias = nullptr;
};
struct layout_object {
    int type;
    std::uint64_t rows, columns;
    std::int64_t stride;
};
struct preference_object {
    std::uint64_t workspace = 0;
    std::uint32_t reduction = ~0u;
};

template <class Object, class... Values>
int make(void** address, Values... values) {
    *address = new Object{values...};
    ++scripted_cublas().objects;
    return 0;
}
template <class Object>
int destroy(void* address) {
    delete static_cast<Object*>(address);
    --scripted_cublas().objects;
    return 0;
}

int set_product(void* address, int attribute, const void* value, std::uint64_t bytes) {
    auto& product = *static_cast<product_object*>(address);
    if (attribute == cublas::product_transpose_a && bytes == 4)
        std::memcpy(&product.transpose_a, value, bytes);
    else if (attribute == cublas::product_epilogue && bytes == 4)
        std::memcpy(&product.epilogue, value, bytes);
    else if (attribute == cublas::product_bias_address && bytes == 8)
        std::memcpy(&product.bias, value, bytes);
    else
        return 7; // CUBLAS_STATUS_INVALID_VALUE
    return 0;
}

int set_preference(void* address, int attribute, const void* value, std::uint64_t bytes) {
    auto& preference = *static_cast<preference_object*>(address);
    if (attribute == cublas::preference_workspace && bytes == 8)
        std::memcpy(&preference.workspace, value, bytes);
    else if (attribute == cublas::preference_reduction && bytes == 4)
        std::memcpy(&preference.reduction, value, bytes);
    return 0;
}

void fill_candidate(std::size_t index, cublas_candidate& candidate) {
    candidate = {};
    candidate.algorithm.data[0] = index;
    candidate.workspace_bytes = scripted_cublas().algorithms[index].workspace_bytes;
    candidate.state = scripted_cublas().algorithms[index].state;
}

/// As the library: the preference filters nothing here, so that whoever asks must look himself.
int find(void*, void*, void*, void*, void*, void*, void*, int wanted, cublas_candidate* found, int* count) {
    scripted_library& library = scripted_cublas();
    ++library.searches;
    *count = 0;
    for (std::size_t index = 0; index < library.algorithms.size() && *count < wanted; ++index)
        fill_candidate(index, found[(*count)++]);
    return library.find_code;
}

int check(void*, void*, void*, void*, void*, void*, const cublas_algorithm* algorithm, cublas_candidate* result) {
    fill_candidate(algorithm->data[0], *result);
    return scripted_cublas().algorithms[algorithm->data[0]].check_code;
}

int get_algorithm(const cublas_algorithm* algorithm, int attribute, void* value, std::uint64_t,
                  std::uint64_t* written) {
    const scripted_algorithm& found = scripted_cublas().algorithms[algorithm->data[0]];
    *written = 4;
    std::memcpy(
        value, attribute == cublas::algorithm_split_k ? static_cast<const void*>(&found.split_k) : &found.reduction, 4);
    return 0;
}

float bf16(const void* matrix, std::uint64_t index) {
    return std::bit_cast<float>(std::uint32_t{static_cast<const std::uint16_t*>(matrix)[index]} << 16);
}

/// out^T [n, rows] = weight [n, k] x^T, all column-major: the only form that is asked for.
int multiply(void*, void* product_address, const void* alpha, const void* a, void* a_layout, const void* b,
             void* b_layout, const void* beta, const void* c, void*, void* d, void* d_layout,
             const cublas_algorithm* algorithm, void* workspace, std::uint64_t workspace_bytes, void* stream) {
    const auto product = *static_cast<const product_object*>(product_address);
    const auto weight = *static_cast<const layout_object*>(a_layout);
    const auto x = *static_cast<const layout_object*>(b_layout);
    const auto out = *static_cast<const layout_object*>(d_layout);
    scripted_cublas().multiplications.push_back({out.columns, algorithm->data[0], workspace_bytes, workspace});
    if (product.transpose_a != 1 || weight.type != cublas::type_bf16 || x.type != cublas::type_bf16 ||
        out.type != cublas::type_f32 || weight.rows != x.rows || weight.columns != out.rows || c != d ||
        *static_cast<const float*>(alpha) != 1.0f || (product.epilogue == 4 && !product.bias))
        return 7;
    const float kept = *static_cast<const float*>(beta);
    scripted_cuda().queue(stream, [=] {
        for (std::uint64_t row = 0; row < out.columns; ++row)
            for (std::uint64_t column = 0; column < out.rows; ++column) {
                float sum = 0;
                for (std::uint64_t k = 0; k < x.rows; ++k)
                    sum += bf16(a, column * static_cast<std::uint64_t>(weight.stride) + k) *
                           bf16(b, row * static_cast<std::uint64_t>(x.stride) + k);
                float& place = static_cast<float*>(d)[row * static_cast<std::uint64_t>(out.stride) + column];
                sum += product.epilogue == 4 ? product.bias[column] : 0.0f;
                place = kept != 0.0f ? kept * place + sum : sum;
            }
    });
    return scripted_cublas().multiply_code;
}

constexpr cublas_calls calls = {
    .version = [] { return scripted_cublas().version; },
    .status_text = [](int) { return "scripted status"; },
    .create =
        [](void** handle) {
            if (scripted_cublas().create_code == 0) {
                *handle = &scripted_cublas();
                ++scripted_cublas().handles;
            }
            return scripted_cublas().create_code;
        },
    .destroy =
        [](void*) {
            --scripted_cublas().handles;
            return 0;
        },
    .product_create = [](void** product, int, int) { return make<product_object>(product); },
    .product_destroy = destroy<product_object>,
    .product_set = set_product,
    .layout_create = [](void** layout, int type, std::uint64_t rows, std::uint64_t columns,
                        std::int64_t stride) { return make<layout_object>(layout, type, rows, columns, stride); },
    .layout_destroy = destroy<layout_object>,
    .preference_create = [](void** preference) { return make<preference_object>(preference); },
    .preference_destroy = destroy<preference_object>,
    .preference_set = set_preference,
    .find = find,
    .check = check,
    .algorithm_get = get_algorithm,
    .multiply = multiply,
};

} // namespace

const cublas_calls& scripted_cublas_calls() {
    return calls;
}

} // namespace moira

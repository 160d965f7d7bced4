#pragma once

#include "plugins/conformance/device_session.hpp"

#include <cstddef>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace moira {

/// Rows (or pairs) [begin, begin + count) of a case.
struct row_slice {
    std::uint32_t begin;
    std::uint32_t count;
};

/// What a case computed: `width` floats and `id_width` ids per row of the slice.
struct case_output {
    std::vector<float> values;
    std::vector<std::int32_t> ids;
    moira_error_word error{};
};

/// One op with one shape and one type of weights, on data of its own.
struct op_case {
    std::string name; ///< "gemm bf16 65x129 bias"
    std::vector<std::byte> desc;
    bool narrow = false; ///< which row of the tolerance table
    std::uint32_t rows = 0;
    std::uint32_t width = 0;
    std::uint32_t id_width = 0;
    std::function<case_output(device_session&, row_slice)> run;
    bool offer = false; ///< a plugin may do without, and need not promise row-exactness

    const moira_op_header& header() const { return *reinterpret_cast<const moira_op_header*>(desc.data()); }
};

/// A descriptor with its header filled in.
template <class Desc>
Desc make_desc(std::uint32_t op, std::uint32_t rows_max) {
    Desc desc{};
    desc.header = {sizeof(Desc), op, rows_max};
    return desc;
}

template <class Desc>
std::vector<std::byte> desc_bytes(const Desc& desc) {
    std::vector<std::byte> bytes(sizeof desc);
    std::memcpy(bytes.data(), &desc, sizeof desc);
    return bytes;
}

/// The same descriptor for a slice: fewer rows may not change a row.
template <class Desc>
Desc for_rows(Desc desc, std::uint32_t rows) {
    desc.header.rows_max = rows;
    return desc;
}

void add_row_op_cases(std::vector<op_case>& cases); ///< embedding, rmsnorm, rope, kv_append, combine
void add_router_cases(std::vector<op_case>& cases);
void add_attention_cases(std::vector<op_case>& cases); ///< GQA and MLA
void add_gemm_cases(std::vector<op_case>& cases);
void add_expert_cases(std::vector<op_case>& cases);
void add_expert_group_cases(std::vector<op_case>& cases);

std::vector<op_case> all_cases();

/// The sweep over numbers of rows: one or two shapes per op and type of weights, with as many rows.
void add_row_op_sweep(std::vector<op_case>& cases, std::uint32_t rows);
void add_attention_sweep(std::vector<op_case>& cases, std::uint32_t rows);
void add_gemm_sweep(std::vector<op_case>& cases, std::uint32_t rows);
void add_expert_sweep(std::vector<op_case>& cases, std::uint32_t rows);

std::vector<op_case> sweep_cases(std::uint32_t rows);

} // namespace moira

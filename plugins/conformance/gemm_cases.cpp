#include "plugins/conformance/op_case.hpp"

namespace moira {
namespace {

struct gemm_shape {
    std::uint32_t rows;
    std::uint32_t n;
    std::uint32_t k;
    std::uint32_t compute;
    bool bias;
    bool accumulate;
};

const char* compute_name(std::uint32_t compute) {
    return compute == MOIRA_COMPUTE_F32 ? " f32" : compute == MOIRA_COMPUTE_AUTO ? " auto" : " library";
}

std::string name_of(const gemm_shape& given, const moira_quantization& quantization) {
    return "gemm " + type_name(quantization.weight_type) + " " + std::to_string(given.rows) + " rows " +
           std::to_string(given.n) + "x" + std::to_string(given.k) + compute_name(given.compute) +
           (given.bias ? " bias" : "") + (given.accumulate ? " accumulate" : "");
}

moira_pack_desc pack_desc_of(const moira_gemm_desc& desc) {
    moira_pack_desc pack{};
    pack.struct_size = sizeof pack;
    pack.kind = MOIRA_PACK_GEMM;
    pack.n = desc.n;
    pack.k = desc.k;
    pack.compute = desc.compute;
    pack.quantization = desc.quantization;
    return pack;
}

/// The oracle has no library: it computes the same product in its own way.
moira_gemm_desc form_for(const device_session& session, moira_gemm_desc desc) {
    moira_op_support support{};
    support.struct_size = sizeof support;
    const op_provider& provider = session.provider();
    if (desc.compute == MOIRA_COMPUTE_LIBRARY &&
        (provider.api->op_query(provider.device, &desc.header, &support) != MOIRA_OK || support.score <= 0))
        desc.compute = MOIRA_COMPUTE_AUTO;
    return desc;
}

void add_gemm(std::vector<op_case>& cases, const gemm_shape& given, const moira_quantization& quantization) {
    auto wanted = make_desc<moira_gemm_desc>(MOIRA_OP_GEMM, given.rows);
    wanted.n = given.n;
    wanted.k = given.k;
    wanted.compute = given.compute;
    wanted.accumulate = given.accumulate ? 1 : 0;
    wanted.has_bias = given.bias ? 1 : 0;
    wanted.quantization = quantization;
    const std::uint32_t x_stride = (given.k + 15) / 16 * 16;
    // A library may need vectors of four.
    const std::uint32_t out_stride = given.n + (given.compute == MOIRA_COMPUTE_LIBRARY ? 4 : 3);
    const stored_weight weight = random_weight(given.n + given.k, quantization, given.n, given.k);
    const auto x = random_floats(given.k, std::size_t{given.rows} * x_stride);
    const auto bias = random_floats(given.n, given.n);
    const auto before = random_floats(given.n + 1, std::size_t{given.rows} * out_stride);
    const bool narrow = quantization.weight_type != MOIRA_TYPE_F32 && given.compute != MOIRA_COMPUTE_F32;
    cases.push_back({name_of(given, quantization), desc_bytes(wanted), narrow, given.rows, given.n, 0,
                     [=](device_session& session, row_slice slice) {
                         const moira_gemm_desc desc = form_for(session, for_rows(wanted, slice.count));
                         const moira_pack_source source{
                             weight.bytes.data(), weight.scales.empty() ? nullptr : weight.scales.data(), nullptr};
                         moira_gemm_args args{};
                         args.rows = slice.count;
                         args.x = session.upload(rows_of(x, x_stride, slice.begin, slice.count));
                         args.x_stride = x_stride;
                         args.weight = session.pack(pack_desc_of(desc), {&source, 1}).address;
                         args.bias = desc.has_bias ? session.upload(bias) : nullptr;
                         args.out = session.upload(rows_of(before, out_stride, slice.begin, slice.count));
                         args.out_stride = out_stride;
                         case_output out;
                         out.error = session.run(desc.header, args, &args.workspace);
                         const auto all = session.download(args.out, std::uint64_t{slice.count} * out_stride);
                         for (std::uint32_t row = 0; row < slice.count; ++row) {
                             const auto begin = all.begin() + std::int64_t{row} * out_stride;
                             out.values.insert(out.values.end(), begin, begin + desc.n);
                         }
                         return out;
                     },
                     given.compute == MOIRA_COMPUTE_LIBRARY});
}

} // namespace

void add_gemm_cases(std::vector<op_case>& cases) {
    const moira_quantization types[] = {plain(MOIRA_TYPE_F32), plain(MOIRA_TYPE_BF16), plain(MOIRA_TYPE_F16),
                                        block_f8()};
    for (const auto& type : types) {
        for (const std::uint32_t compute : {MOIRA_COMPUTE_F32, MOIRA_COMPUTE_AUTO}) {
            add_gemm(cases, {1, 1, 1, compute, false, false}, type);
            add_gemm(cases, {5, 65, 129, compute, true, false}, type);
            add_gemm(cases, {7, 64, 64, compute, false, true}, type);
            add_gemm(cases, {3, 130, 7, compute, true, true}, type);
            add_gemm(cases, {13, 200, 300, compute, false, false}, type); // large enough for a team
        }
    }
    add_gemm(cases, {67, 128, 256, MOIRA_COMPUTE_AUTO, false, false}, plain(MOIRA_TYPE_BF16)); // several blocks of rows
    add_gemm(cases, {35, 96, 384, MOIRA_COMPUTE_AUTO, false, false}, block_f8());
    // Every way in which n and k can end beside or on the border of a block of scales.
    for (const std::uint32_t n : {127u, 128u, 129u, 257u})
        for (const std::uint32_t k : {127u, 128u, 129u, 257u})
            add_gemm(cases, {3, n, k, MOIRA_COMPUTE_AUTO, false, false}, block_f8());
    add_gemm(cases, {1, 300, 513, MOIRA_COMPUTE_F32, true, true}, block_f8());
    // By the vendor's library, where a plugin has one.
    add_gemm(cases, {5, 64, 128, MOIRA_COMPUTE_LIBRARY, true, false}, plain(MOIRA_TYPE_BF16));
    add_gemm(cases, {130, 128, 256, MOIRA_COMPUTE_LIBRARY, false, true}, plain(MOIRA_TYPE_BF16));
    add_gemm(cases, {256, 256, 512, MOIRA_COMPUTE_LIBRARY, true, true}, plain(MOIRA_TYPE_BF16));
}

void add_gemm_sweep(std::vector<op_case>& cases, std::uint32_t rows) {
    for (const std::uint32_t type : {MOIRA_TYPE_F32, MOIRA_TYPE_BF16, MOIRA_TYPE_F16})
        for (const std::uint32_t compute : {MOIRA_COMPUTE_F32, MOIRA_COMPUTE_AUTO})
            add_gemm(cases, {rows, 200, 320, compute, true, false}, plain(type));
    add_gemm(cases, {rows, 200, 384, MOIRA_COMPUTE_F32, false, true}, block_f8());
    add_gemm(cases, {rows, 200, 384, MOIRA_COMPUTE_AUTO, false, true}, block_f8());
    add_gemm(cases, {rows, 256, 512, MOIRA_COMPUTE_LIBRARY, true, true}, plain(MOIRA_TYPE_BF16));
}

} // namespace moira

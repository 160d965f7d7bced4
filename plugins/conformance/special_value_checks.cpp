// Infinities and NaN: they show in the results that they enter, and nowhere else.
#include "plugins/conformance/checks.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace moira {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

bool all_nan(const std::vector<float>& values) {
    return std::all_of(values.begin(), values.end(), [](float value) { return std::isnan(value); });
}

bool all_finite(const std::vector<float>& values) {
    return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

/// Adds the outcome, or why the experiment could not be made.
void conclude(const device_session& session, bool ok, const char* op, const char* what, check_log& log) {
    log.expect(!session.failed() && ok, op, "special values", session.failed() ? session.failure() : what);
}

void check_embedding(const op_provider& tested, check_log& log) {
    device_session session(tested);
    auto desc = make_desc<moira_embedding_desc>(MOIRA_OP_EMBEDDING, 3);
    desc.vocabulary = 3;
    desc.width = 2;
    desc.weight_type = MOIRA_TYPE_BF16;
    // BF16: infinity, minus infinity; NaN, the smallest denormal; minus zero, 1.
    const std::vector<std::uint16_t> table = {0x7f80, 0xff80, 0x7fc0, 0x0001, 0x8000, 0x3f80};
    moira_embedding_args args{};
    args.rows = 3;
    args.token_ids = session.upload(std::vector<std::int32_t>{0, 1, 2});
    args.table = session.upload(table);
    args.out = session.reserve(6);
    session.run(desc.header, args);
    const auto out = session.download(args.out, 6);
    conclude(session,
             out[0] == infinity && out[1] == -infinity && std::isnan(out[2]) && out[3] == 0x1p-133f && out[4] == 0 &&
                 std::signbit(out[4]) && out[5] == 1,
             "embedding", "infinities, NaN, denormals and signed zeros must be widened exactly", log);
}

void check_rmsnorm(const op_provider& tested, check_log& log) {
    device_session session(tested);
    constexpr std::uint32_t width = 40;
    auto desc = make_desc<moira_rmsnorm_desc>(MOIRA_OP_RMSNORM, 4);
    desc.width = width;
    desc.epsilon = 1e-6f;
    std::vector<float> in = random_floats(1, std::size_t{4} * width);
    in[width + 35] = not_a_number;
    std::fill(in.begin() + 2 * width, in.begin() + 3 * width, 0.0f);
    moira_rmsnorm_args args{};
    args.rows = 4;
    args.groups = 1;
    args.in = session.upload(in);
    args.out = session.reserve(in.size());
    args.weight = session.upload(std::vector<float>(width, 1.0f));
    args.in_stride = args.out_stride = width;
    session.run(desc.header, args);
    const auto out = session.download(args.out, in.size());
    conclude(session, all_nan(rows_of(out, width, 1, 1)), "rmsnorm", "a NaN must make its whole row NaN", log);
    conclude(session, all_finite(rows_of(out, width, 0, 1)) && all_finite(rows_of(out, width, 3, 1)), "rmsnorm",
             "a NaN must stay in its row", log);
    const auto zeros = rows_of(out, width, 2, 1);
    conclude(session, std::all_of(zeros.begin(), zeros.end(), [](float value) { return value == 0; }), "rmsnorm",
             "a row of zeros must stay zeros", log);
}

void check_gemm(const op_provider& tested, std::uint32_t type, check_log& log) {
    device_session session(tested);
    constexpr std::uint32_t n = 70;
    constexpr std::uint32_t k = 48;
    auto desc = make_desc<moira_gemm_desc>(MOIRA_OP_GEMM, 4);
    desc.n = n;
    desc.k = k;
    desc.compute = MOIRA_COMPUTE_AUTO;
    desc.quantization = plain(type);
    // 1.0 everywhere: its upper half is BF16's.
    std::vector<std::byte> ones(std::size_t{n} * k * element_bytes(type));
    const float one = 1.0f;
    for (std::size_t i = 0; i < std::size_t{n} * k; ++i)
        std::memcpy(ones.data() + i * element_bytes(type),
                    reinterpret_cast<const char*>(&one) + (4 - element_bytes(type)), element_bytes(type));
    moira_pack_desc pack{};
    pack.struct_size = sizeof pack;
    pack.kind = MOIRA_PACK_GEMM;
    pack.n = n;
    pack.k = k;
    pack.compute = desc.compute;
    pack.quantization = desc.quantization;
    std::vector<float> x = random_floats(2, std::size_t{4} * k);
    x[k + 7] = not_a_number;
    x[2 * k + 47] = -infinity;
    const moira_pack_source source{ones.data(), nullptr, nullptr};
    moira_gemm_args args{};
    args.rows = 4;
    args.x = session.upload(x);
    args.x_stride = k;
    args.weight = session.pack(pack, {&source, 1}).address;
    args.out = session.reserve(std::size_t{4} * n);
    args.out_stride = n;
    session.run(desc.header, args, &args.workspace);
    const auto out = session.download(args.out, std::size_t{4} * n);
    const auto infinite = rows_of(out, n, 2, 1);
    conclude(session, all_nan(rows_of(out, n, 1, 1)), "gemm", "a NaN must reach every output of its row", log);
    conclude(session, std::all_of(infinite.begin(), infinite.end(), [](float value) { return value == -infinity; }),
             "gemm", "minus infinity times ones must be minus infinity", log);
    conclude(session, all_finite(rows_of(out, n, 0, 1)) && all_finite(rows_of(out, n, 3, 1)), "gemm",
             "NaN and infinity must stay in their rows", log);
}

/// Ones, but for one block of zeros by its scale and one weight that is NaN: k is three blocks, the last a partial one.
void check_f8_gemm(const op_provider& tested, check_log& log) {
    device_session session(tested);
    constexpr std::uint32_t n = 130;
    constexpr std::uint32_t k = 300;
    auto desc = make_desc<moira_gemm_desc>(MOIRA_OP_GEMM, 3);
    desc.n = n;
    desc.k = k;
    desc.compute = MOIRA_COMPUTE_AUTO;
    desc.quantization = block_f8();
    constexpr std::uint8_t one = 0x38;
    constexpr std::uint8_t nan_code = 0xff;
    std::vector<std::uint8_t> weight(std::size_t{n} * k, one);
    weight[std::size_t{5} * k + 290] = nan_code;
    // Rows of n above 128 have no scale but 0 in the first block of k, and 0.5 in the last.
    const std::vector<float> scales = {1.0f, 0.25f, 2.0f, 0.0f, 1.0f, 0.5f};
    moira_pack_desc pack{};
    pack.struct_size = sizeof pack;
    pack.kind = MOIRA_PACK_GEMM;
    pack.n = n;
    pack.k = k;
    pack.compute = desc.compute;
    pack.quantization = desc.quantization;
    const moira_pack_source source{weight.data(), scales.data(), nullptr};
    std::vector<float> x(std::size_t{3} * k, 1.0f);
    x[k + 290] = 0.0f; // zero times NaN is NaN
    x[2 * k + 3] = infinity;
    moira_gemm_args args{};
    args.rows = 3;
    args.x = session.upload(x);
    args.x_stride = k;
    args.weight = session.pack(pack, {&source, 1}).address;
    args.out = session.reserve(std::size_t{3} * n);
    args.out_stride = n;
    session.run(desc.header, args, &args.workspace);
    const auto out = session.download(args.out, std::size_t{3} * n);
    bool nan_shows = true;
    bool scaled = true;
    for (std::uint32_t row = 0; row < 3; ++row)
        for (std::uint32_t column = 0; column < n; ++column) {
            const float value = out[row * n + column];
            if (column == 5)
                nan_shows &= std::isnan(value);
            else if (row == 2) // infinity, or infinity times a scale of 0
                scaled &= column < 128 ? value == infinity : std::isnan(value);
            else if (column < 128)
                scaled &= value == 128.0f + 0.25f * 128 + 2.0f * (44 - static_cast<float>(row));
            else
                scaled &= value == 128.0f + 0.5f * (44 - static_cast<float>(row));
        }
    conclude(session, nan_shows, "gemm f8_e4m3", "an E4M3 NaN must reach its column in every row, and no other", log);
    conclude(session, scaled, "gemm f8_e4m3", "every block must be multiplied by its own scale, 0 included", log);
}

void check_combine(const op_provider& tested, check_log& log) {
    device_session session(tested);
    constexpr std::uint32_t width = 20;
    auto desc = make_desc<moira_combine_desc>(MOIRA_OP_COMBINE, 2);
    desc.width = width;
    desc.top_k = 2;
    std::vector<float> expert_out = random_floats(3, std::size_t{4} * width);
    expert_out[width + 19] = not_a_number; // row 0, rank 1
    expert_out[3] = infinity;
    moira_combine_args args{};
    args.rows = 2;
    args.expert_out = session.upload(expert_out);
    args.weights = session.upload(std::vector<float>{0.5f, 0.25f, 0.5f, 0.25f});
    args.residual = session.upload(std::vector<float>(std::size_t{2} * width, 1.0f));
    session.run(desc.header, args);
    const auto out = session.download(args.residual, std::size_t{2} * width);
    std::size_t not_finite = 0;
    for (const float value : out)
        not_finite += std::isfinite(value) ? 0 : 1;
    conclude(session, std::isnan(out[19]) && out[3] == infinity && not_finite == 2, "combine",
             "NaN and infinity must reach their own element and no other", log);
}

/// Ranks that were left out have weight 0, and nobody has written their outputs.
void check_left_out(const op_provider& tested, check_log& log) {
    device_session session(tested);
    constexpr std::uint32_t width = 20;
    auto desc = make_desc<moira_combine_desc>(MOIRA_OP_COMBINE, 1);
    desc.width = width;
    desc.top_k = 3;
    std::vector<float> expert_out(std::size_t{3} * width, not_a_number);
    std::fill_n(expert_out.begin() + width, width, 4.0f); // rank 1
    moira_combine_args args{};
    args.rows = 1;
    args.expert_out = session.upload(expert_out);
    args.weights = session.upload(std::vector<float>{0.0f, 0.5f, 0.0f});
    args.residual = session.upload(std::vector<float>(width, 1.0f));
    session.run(desc.header, args);
    const auto out = session.download(args.residual, width);
    const bool right = std::all_of(out.begin(), out.end(), [](float value) { return value == 3.0f; });
    conclude(session, right, "combine", "a rank of weight 0 must add nothing, whatever its output holds", log);
}

} // namespace

void check_special_values(const op_provider& tested, check_log& log) {
    check_embedding(tested, log);
    check_rmsnorm(tested, log);
    check_gemm(tested, MOIRA_TYPE_F32, log);
    check_gemm(tested, MOIRA_TYPE_BF16, log);
    check_f8_gemm(tested, log);
    check_combine(tested, log);
    check_left_out(tested, log);
}

} // namespace moira

#include "plugins/conformance/checks.hpp"

#include <cstring>

namespace moira {
namespace {

constexpr std::uint32_t rows = 24;
constexpr std::uint32_t width = 192; // 24 x 192 x 192 products: worth a team

/// norm -> gemm -> norm -> gemm (added to the first input): every op reads what the one before wrote.
struct chain {
    moira_rmsnorm_desc norm = make_desc<moira_rmsnorm_desc>(MOIRA_OP_RMSNORM, rows);
    moira_gemm_desc gemm = make_desc<moira_gemm_desc>(MOIRA_OP_GEMM, rows);

    chain() {
        norm.width = width;
        norm.epsilon = 1e-6f;
        gemm.n = gemm.k = width;
        gemm.compute = MOIRA_COMPUTE_F32;
        gemm.accumulate = 1;
        gemm.quantization = plain(MOIRA_TYPE_F32);
    }

    std::vector<float> run(device_session& session, bool at_once) const {
        moira_pack_desc pack{};
        pack.struct_size = sizeof pack;
        pack.kind = MOIRA_PACK_GEMM;
        pack.n = pack.k = width;
        pack.compute = gemm.compute;
        pack.quantization = gemm.quantization;
        const stored_weight weight = random_weight(1, gemm.quantization, width, width);
        const moira_pack_source source{weight.bytes.data(), nullptr, nullptr};
        const std::size_t size = std::size_t{rows} * width;
        float* x = session.upload(random_floats(2, size));
        float* normed = session.reserve(size);
        moira_rmsnorm_args norm_args{};
        norm_args.rows = rows;
        norm_args.groups = 1;
        norm_args.in = x;
        norm_args.out = normed;
        norm_args.weight = session.upload(std::vector<float>(width, 1.5f));
        norm_args.in_stride = norm_args.out_stride = width;
        moira_gemm_args gemm_args{};
        gemm_args.rows = rows;
        gemm_args.x = normed;
        gemm_args.x_stride = width;
        gemm_args.weight = session.pack(pack, {&source, 1}).address;
        gemm_args.out = x;
        gemm_args.out_stride = width;
        void* ignored = nullptr;
        const moira_op* norm_op = session.prepare(norm.header, &ignored);
        const moira_op* gemm_op = session.prepare(gemm.header, &gemm_args.workspace);
        const std::vector<moira_launch> list = {
            {norm_op, &norm_args}, {gemm_op, &gemm_args}, {norm_op, &norm_args}, {gemm_op, &gemm_args}};
        if (at_once)
            session.launch(list);
        for (std::size_t i = 0; i < list.size() && !at_once; ++i)
            session.launch({list[i]});
        session.finish();
        return session.download(x, size);
    }
};

void check_chain(const op_provider& tested, check_log& log) {
    const chain ops;
    device_session together(tested);
    device_session apart(tested);
    const auto a = ops.run(together, true);
    const auto b = ops.run(apart, false);
    const std::string failure = together.failed() ? together.failure() : apart.failure();
    log.expect(failure.empty() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0, "launch", "list",
               failure.empty() ? "a list launched at once gives other bits than its ops one by one" : failure);
}

void check_no_rows(const op_provider& tested, check_log& log) {
    device_session session(tested);
    const chain ops;
    moira_rmsnorm_args args{};
    args.groups = 1;
    float* out = session.upload(std::vector<float>(width, 7.0f));
    args.in = args.out = out;
    args.weight = session.upload(std::vector<float>(width, 1.0f));
    args.in_stride = args.out_stride = width;
    session.run(ops.norm.header, args);
    const auto after = session.download(out, width);
    log.expect(!session.failed() && after == std::vector<float>(width, 7.0f), "launch", "list",
               session.failed() ? session.failure() : "a launch without rows wrote something");
    session.launch({});
    session.finish();
    log.expect(!session.failed(), "launch", "list", "an empty list: " + session.failure());
}

} // namespace

void check_lists(const op_provider& tested, check_log& log) {
    check_chain(tested, log);
    check_no_rows(tested, log);
}

} // namespace moira

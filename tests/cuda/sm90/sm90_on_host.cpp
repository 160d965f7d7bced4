// The sm_90 kernels run by the host executor, under the names that the tests of sm_80 call: they are launched as the
// plugin launches them.
#include "kernels/cuda/sm90/wgmma_plan.hpp"
#include "tests/cuda/sm80_on_host.hpp"

namespace moira {

namespace {

struct host_launcher {
    simt_config config;
    simt_memory& memory;
    simt_report report;

    host_launcher(const simt_config& given, simt_memory& registered) : config(given), memory(registered) {
        config.shared_bytes_max = 227 * 1024; // of compute capability 9.0
    }
    template <class Body>
    void launch(const launch_shape& shape, const Body& body) {
        if (report.clean())
            report = simt_launch(shape, config, memory, body);
    }
    void prepare(const launch_shape& shape, const expert_prepare_args& args) {
        launch(shape, [&] { wgmma_prepare(args); });
    }
    template <class Shape>
    void gate_up(const launch_shape& shape, const expert_product_args& args) {
        launch(shape, [&] { wgmma_gate_up<Shape>(args); });
    }
    template <class Shape>
    void down(const launch_shape& shape, const expert_product_args& args) {
        launch(shape, [&] { wgmma_down<Shape>(args); });
    }
    void round(const launch_shape& shape, const wgmma_gemm_args& args) {
        launch(shape, [&] { wgmma_round_rows(args); });
    }
    template <class Shape>
    void tiles(const launch_shape& shape, const wgmma_gemm_args& args) {
        launch(shape, [&] { wgmma_gemm<Shape>(args); });
    }
    template <weight_format format>
    void exact(const launch_shape& shape, const gemm_kernel_args& args) {
        launch(shape, [&] { gemm_exact<format>(args); });
    }
};

void run_exact(const moira_gemm_desc& desc, const moira_gemm_args& args, host_launcher& launcher) {
    switch (weight_format_of(desc.quantization)) {
    case weight_format::f32:
        return run_gemm_exact<weight_format::f32>(gemm_args_of(desc, args), launcher);
    case weight_format::f16:
        return run_gemm_exact<weight_format::f16>(gemm_args_of(desc, args), launcher);
    default:
        return run_gemm_exact<weight_format::bf16>(gemm_args_of(desc, args), launcher);
    }
}

} // namespace

simt_report run_sm80_expert_ffn(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args,
                                const cuda_launch& launch, const simt_config& config, simt_memory& memory,
                                uint32_t tile_rows) {
    host_launcher launcher(config, memory);
    run_wgmma_expert_ffn(desc, args, plan_wgmma_expert_ffn(desc, args.groups, args.pairs, tile_rows), launch, launcher);
    return launcher.report;
}

uint64_t sm80_expert_ffn_bytes(const moira_expert_ffn_desc& desc, uint32_t groups, uint32_t pairs, uint32_t tile_rows) {
    return plan_wgmma_expert_ffn(desc, groups, pairs, tile_rows).bytes;
}

simt_report run_sm80_gemm(const moira_gemm_desc& desc, const moira_gemm_args& args, const simt_config& config,
                          simt_memory& memory, uint32_t tile_rows) {
    host_launcher launcher(config, memory);
    if (gemm_is_exact(desc))
        run_exact(desc, args, launcher);
    else
        run_wgmma_gemm(desc, args, launcher, tile_rows);
    return launcher.report;
}

} // namespace moira

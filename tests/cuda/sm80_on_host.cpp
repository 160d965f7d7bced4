#include "tests/cuda/sm80_on_host.hpp"

#include "kernels/cuda/sm80/expert_ffn_plan.hpp"
#include "kernels/cuda/sm80/gemm_plan.hpp"

namespace moira {

namespace {

struct host_launcher {
    const simt_config& config;
    simt_memory& memory;
    simt_report report;

    template <class Body>
    void launch(const launch_shape& shape, const Body& body) {
        if (report.clean())
            report = simt_launch(shape, config, memory, body);
    }
    void prepare(const launch_shape& shape, const expert_prepare_args& args) {
        launch(shape, [&] { expert_prepare(args); });
    }
    template <class Shape>
    void gate_up(const launch_shape& shape, const expert_product_args& args) {
        launch(shape, [&] { expert_gate_up<Shape>(args); });
    }
    template <class Shape>
    void down(const launch_shape& shape, const expert_product_args& args) {
        launch(shape, [&] { expert_down<Shape>(args); });
    }
    void round(const launch_shape& shape, const gemm_kernel_args& args) {
        launch(shape, [&] { gemm_round_rows(args); });
    }
    template <class Shape>
    void tiles(const launch_shape& shape, const gemm_kernel_args& args) {
        launch(shape, [&] { gemm_tiles<Shape>(args); });
    }
    template <weight_format format>
    void exact(const launch_shape& shape, const gemm_kernel_args& args) {
        launch(shape, [&] { gemm_exact<format>(args); });
    }
};

} // namespace

simt_report run_sm80_expert_ffn(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args,
                                const cuda_launch& launch, const simt_config& config, simt_memory& memory,
                                uint32_t tile_rows) {
    host_launcher launcher{config, memory, {}};
    run_expert_ffn(desc, args, plan_expert_ffn(desc, args.groups, args.pairs, tile_rows), launch, launcher);
    return launcher.report;
}

uint64_t sm80_expert_ffn_bytes(const moira_expert_ffn_desc& desc, uint32_t groups, uint32_t pairs, uint32_t tile_rows) {
    return plan_expert_ffn(desc, groups, pairs, tile_rows).bytes;
}

simt_report run_sm80_gemm(const moira_gemm_desc& desc, const moira_gemm_args& args, const simt_config& config,
                          simt_memory& memory, uint32_t tile_rows) {
    host_launcher launcher{config, memory, {}};
    run_gemm(desc, args, launcher, tile_rows);
    return launcher.report;
}

} // namespace moira

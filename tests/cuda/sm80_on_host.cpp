#include "tests/cuda/sm80_on_host.hpp"

#include "kernels/cuda/sm80/attention_plan.hpp"
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
        if (!report.clean())
            return;
        simt_report next = simt_launch(shape, config, memory, body);
        next.add_counts(report);
        report = next;
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
    void check(const launch_shape& shape, const attention_kernel_args& args) {
        launch(shape, [&] { attention_check(args); });
    }
    template <class Shape, bool shared_out>
    void rows(const launch_shape& shape, const attention_kernel_args& args) {
        launch(shape, [&] { attention_rows<Shape, shared_out>(args); });
    }
    void merge(const launch_shape& shape, const attention_kernel_args& args) {
        launch(shape, [&] { attention_merge(args); });
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

namespace {

attention_plan own_plan(const moira_attention_gqa_desc& desc, uint32_t rows) {
    return plan_attention_gqa(desc, rows);
}
attention_plan own_plan(const moira_attention_mla_desc& desc, uint32_t rows) {
    return plan_attention_mla(desc, rows);
}
uint32_t value_width_of(const moira_attention_gqa_desc& desc) {
    return desc.head_dim;
}
uint32_t value_width_of(const moira_attention_mla_desc& desc) {
    return desc.kv_rank;
}

// The plan with other splits, and room for their sums behind everything else.
template <class Desc>
attention_plan chosen_plan(const Desc& desc, uint32_t rows, const attention_split_choice& choice) {
    attention_plan plan = own_plan(desc, rows);
    if (choice.split_tokens == 0)
        return plan;
    plan.split_tokens = choice.split_tokens;
    plan.splits = (desc.context_max + choice.split_tokens - 1) / choice.split_tokens;
    plan.shared_out = choice.shared_out;
    const uint64_t split_heads = uint64_t{rows} * plan.splits * desc.heads;
    plan.split_maxima = round_up(plan.bytes_max, 64);
    plan.split_sums = plan.split_maxima + round_up(split_heads * sizeof(float), 64);
    plan.split_values = plan.split_sums + round_up(split_heads * sizeof(float), 64);
    plan.bytes_max = plan.split_values + split_heads * value_width_of(desc) * sizeof(float);
    return plan;
}

} // namespace

simt_report run_sm80_attention(const moira_attention_gqa_desc& desc, const moira_attention_args& args,
                               const cuda_launch& launch, const simt_config& config, simt_memory& memory,
                               attention_split_choice choice) {
    host_launcher launcher{config, memory, {}};
    const attention_plan plan = chosen_plan(desc, args.rows, choice);
    run_attention_gqa(desc, args, plan, launch, launcher);
    return launcher.report;
}

simt_report run_sm80_attention(const moira_attention_mla_desc& desc, const moira_attention_args& args,
                               const cuda_launch& launch, const simt_config& config, simt_memory& memory,
                               attention_split_choice choice) {
    host_launcher launcher{config, memory, {}};
    const attention_plan plan = chosen_plan(desc, args.rows, choice);
    run_attention_mla(desc, args, plan, launch, launcher);
    return launcher.report;
}

uint64_t sm80_attention_bytes(const moira_attention_gqa_desc& desc, uint32_t rows, attention_split_choice choice) {
    return chosen_plan(desc, rows, choice).bytes_max;
}
uint64_t sm80_attention_bytes(const moira_attention_mla_desc& desc, uint32_t rows, attention_split_choice choice) {
    return chosen_plan(desc, rows, choice).bytes_max;
}

} // namespace moira

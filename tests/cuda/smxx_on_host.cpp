#include "tests/cuda/smxx_on_host.hpp"

#include "kernels/cuda/smxx/combine.hpp"
#include "kernels/cuda/smxx/e4m3_blocks.hpp"
#include "kernels/cuda/smxx/embedding.hpp"
#include "kernels/cuda/smxx/kv_append.hpp"
#include "kernels/cuda/smxx/permute.hpp"
#include "kernels/cuda/smxx/rmsnorm.hpp"
#include "kernels/cuda/smxx/rope.hpp"
#include "kernels/cuda/smxx/router_topk.hpp"
#include "kernels/cuda/smxx/sample.hpp"

namespace moira {

simt_report smxx_on_host::run(const moira_embedding_desc& desc, const moira_embedding_args& args) const {
    return simt_launch(embedding_shape(desc, args), config, memory, [&] { embedding_rows(desc, args, errors); });
}

simt_report smxx_on_host::run(const moira_rmsnorm_desc& desc, const moira_rmsnorm_args& args) const {
    if (rmsnorm_by_warp(desc))
        return simt_launch(rmsnorm_warp_shape(desc, args), config, memory, [&] { rmsnorm_warps(desc, args, errors); });
    return simt_launch(rmsnorm_block_shape(desc, args), config, memory, [&] { rmsnorm_blocks(desc, args, errors); });
}

simt_report smxx_on_host::run(const moira_rope_desc& desc, const moira_rope_args& args) const {
    return simt_launch(rope_shape(desc, args), config, memory, [&] { rope_rows(desc, args, errors); });
}

simt_report smxx_on_host::run(const moira_kv_append_desc& desc, const moira_kv_append_args& args) const {
    return simt_launch(kv_append_shape(desc, args), config, memory, [&] { kv_append_rows(desc, args, errors); });
}

simt_report smxx_on_host::run(const moira_router_topk_desc& desc, const moira_router_topk_args& args) const {
    return simt_launch(router_topk_shape(desc, args), config, memory, [&] { router_topk_rows(desc, args, errors); });
}

simt_report smxx_on_host::run(const moira_combine_desc& desc, const moira_combine_args& args) const {
    return simt_launch(combine_shape(desc, args), config, memory, [&] { combine_rows(desc, args, errors); });
}

simt_report smxx_on_host::run(const moira_expert_groups_desc& desc, const moira_expert_groups_args& args) const {
    const simt_report report =
        simt_launch(permute_shape(desc), config, memory, [&] { permute_count(desc, args, errors); });
    if (!report.clean())
        return report;
    return simt_launch(permute_shape(desc), config, memory, [&] { permute_place(desc, args); });
}

simt_report smxx_on_host::quantize(const e4m3_blocks_args& args) const {
    return simt_launch(e4m3_blocks_shape(args), config, memory, [&] { e4m3_quantize(args); });
}

simt_report smxx_on_host::dequantize(const e4m3_blocks_args& args) const {
    return simt_launch(e4m3_blocks_shape(args), config, memory, [&] { e4m3_dequantize(args); });
}

namespace {

// Stops at the first kernel with a finding.
struct sample_on_host {
    const smxx_on_host& host;
    simt_report report;

    template <class Body>
    void launch(const launch_shape& shape, const Body& body) {
        if (report.clean())
            report = simt_launch(shape, host.config, host.memory, body);
    }
    template <bool of_logits>
    void first(const launch_shape& shape, const sample_part_args& args) {
        launch(shape, [&] { sample_first<of_logits>(args); });
    }
    template <bool of_logits>
    void best(const launch_shape& shape, const sample_part_args& args) {
        launch(shape, [&] { sample_best<of_logits>(args); });
    }
    void finish(const launch_shape& shape, const sample_args& args, const sample_key* keys) {
        launch(shape, [&] { sample_finish(args, keys); });
    }
};

} // namespace

simt_report smxx_on_host::sample(const sample_args& args) const {
    sample_on_host launcher{*this, {}};
    run_sample(args, launcher);
    return launcher.report;
}

} // namespace moira

#include "tests/cuda/smxx_on_host.hpp"

#include "kernels/cuda/smxx/combine.hpp"
#include "kernels/cuda/smxx/e4m3_blocks.hpp"
#include "kernels/cuda/smxx/embedding.hpp"
#include "kernels/cuda/smxx/kv_append.hpp"
#include "kernels/cuda/smxx/permute.hpp"
#include "kernels/cuda/smxx/rmsnorm.hpp"
#include "kernels/cuda/smxx/rope.hpp"
#include "kernels/cuda/smxx/router_topk.hpp"

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

simt_report smxx_on_host::permute(const permute_args& args) const {
    const simt_report report = simt_launch(permute_shape(args), config, memory, [&] { permute_count(args); });
    if (!report.clean())
        return report;
    return simt_launch(permute_shape(args), config, memory, [&] { permute_place(args); });
}

simt_report smxx_on_host::quantize(const e4m3_blocks_args& args) const {
    return simt_launch(e4m3_blocks_shape(args), config, memory, [&] { e4m3_quantize(args); });
}

simt_report smxx_on_host::dequantize(const e4m3_blocks_args& args) const {
    return simt_launch(e4m3_blocks_shape(args), config, memory, [&] { e4m3_dequantize(args); });
}

} // namespace moira

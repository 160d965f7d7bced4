// Pairs sorted by expert: counted first, then it is known where each expert's pairs begin.
#include "kernels/reference/reference_kernels.hpp"

namespace moira {

void reference_expert_groups(const moira_expert_groups_desc& desc, const moira_expert_groups_args& args,
                             const work_share& share) {
    auto* const places = reinterpret_cast<uint32_t*>(share.shared); // [experts]: pairs, then where the next one goes
    const uint64_t pairs = uint64_t{args.rows} * desc.top_k;
    const auto known = [&](int32_t id) { return id >= 0 && uint32_t(id) < desc.experts; };
    for (uint32_t expert = 0; expert < desc.experts; ++expert)
        places[expert] = 0;
    for (uint64_t pair = 0; pair < pairs; ++pair)
        if (known(args.ids[pair]))
            ++places[args.ids[pair]];
    uint32_t begin = 0;
    uint32_t groups = 0;
    for (uint32_t expert = 0; expert < desc.experts; ++expert) {
        const uint32_t count = places[expert];
        if (count > 0)
            args.group_table[groups++] = {expert, args.generations[uint64_t{expert} * args.generation_stride], begin,
                                          count};
        places[expert] = begin;
        begin += count;
    }
    *args.group_count = groups;
    for (uint64_t pair = 0; pair < pairs; ++pair)
        if (known(args.ids[pair]))
            args.pair_table[places[args.ids[pair]]++] = {int32_t(pair / desc.top_k), int32_t(pair)};
    for (uint64_t pair = begin; pair < pairs; ++pair)
        args.pair_table[pair] = {-1, -1};
}

} // namespace moira

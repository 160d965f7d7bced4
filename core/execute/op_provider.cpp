#include "core/execute/op_provider.hpp"

#include <iterator>

namespace moira {

const char* op_name(std::uint32_t op) noexcept {
    static constexpr const char* names[] = {"embedding",     "rmsnorm", "rope",        "kv_append",  "attention_gqa",
                                            "attention_mla", "gemm",    "router_topk", "expert_ffn", "combine",
                                            "expert_groups"};
    static_assert(std::size(names) == MOIRA_OP_COUNT);
    return op < MOIRA_OP_COUNT ? names[op] : "unknown";
}

} // namespace moira

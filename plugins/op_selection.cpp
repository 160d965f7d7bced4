#include "plugins/op_selection.hpp"

#include "plugins/plugin_file.hpp"

#include <algorithm>

namespace moira {
namespace {

struct answer {
    const op_provider* provider = nullptr;
    op_candidate candidate;
    std::string numerics_id;
    bool row_exact = false;
    std::uint32_t kv_type_wanted = MOIRA_TYPE_F32;
};

answer ask(const op_provider& provider, const moira_op_header& desc) {
    answer got{&provider, {provider.plugin, 0, {}}, {}, false, MOIRA_TYPE_F32};
    moira_op_support support{};
    support.struct_size = sizeof support;
    const moira_status status = provider.api->op_query(provider.device, &desc, &support);
    const auto reason = read_text(support.reason, sizeof support.reason, "reason");
    const auto numerics_id = read_text(support.numerics_id, sizeof support.numerics_id, "numerics_id");
    if (!reason || !numerics_id) {
        got.candidate.reason = reason ? numerics_id.error().message : reason.error().message;
        return got;
    }
    got.candidate.reason = *reason;
    if (status == MOIRA_OK) {
        got.candidate.score = support.score;
        got.numerics_id = *numerics_id;
        got.row_exact = support.row_exact != 0;
        got.kv_type_wanted = support.kv_type_wanted;
    } else if (got.candidate.reason.empty()) {
        got.candidate.reason = status_text(status) + ": " + read_last_error(*provider.api);
    }
    return got;
}

} // namespace

result<op_choice> select_op(const std::vector<op_provider>& providers, const moira_op_header& desc) {
    std::vector<answer> answers;
    for (const op_provider& provider : providers)
        answers.push_back(ask(provider, desc));
    std::stable_sort(answers.begin(), answers.end(),
                     [](const answer& a, const answer& b) { return a.candidate.score > b.candidate.score; });
    if (answers.empty() || answers.front().candidate.score <= 0) {
        std::string why = std::string("no plugin can run the op ") + op_name(desc.op);
        for (const answer& refused : answers)
            why += "; " + refused.candidate.plugin + ": " + refused.candidate.reason;
        return fail(errc::op_missing, std::move(why));
    }
    op_choice choice{answers.front().provider,
                     answers.front().numerics_id,
                     answers.front().row_exact,
                     answers.front().kv_type_wanted,
                     {}};
    for (answer& each : answers)
        choice.candidates.push_back(std::move(each.candidate));
    return choice;
}

} // namespace moira

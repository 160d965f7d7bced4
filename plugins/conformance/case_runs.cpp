#include "plugins/conformance/case_runs.hpp"

#include <cstring>

namespace moira {

bool run_case(const op_provider& provider, const op_case& each, row_slice slice, const char* check, check_log& log,
              case_output& out) {
    device_session session(provider);
    out = each.run(session, slice);
    if (session.failed()) {
        log.fail(each.name, check, provider.plugin + ": " + session.failure());
        return false;
    }
    if (out.error.code != MOIRA_ERROR_NONE) {
        log.fail(each.name, check, provider.plugin + ": unexpected error word " + std::to_string(out.error.code));
        return false;
    }
    return true;
}

bool same_bits(const case_output& a, const case_output& b) {
    return a.values.size() == b.values.size() && a.ids == b.ids &&
           (a.values.empty() || std::memcmp(a.values.data(), b.values.data(), a.values.size() * sizeof(float)) == 0);
}

case_output part_of(const case_output& whole, const op_case& each, row_slice slice) {
    case_output part;
    part.values = rows_of(whole.values, each.width, slice.begin, slice.count);
    part.ids = rows_of(whole.ids, each.id_width, slice.begin, slice.count);
    return part;
}

bool ask_support(const op_provider& tested, const op_case& each, moira_op_support& support, check_log& log) {
    support = {};
    support.struct_size = sizeof support;
    const moira_status status = tested.api->op_query(tested.device, &each.header(), &support);
    if (status != MOIRA_OK) {
        log.fail(each.name, "query", "op_query returned " + std::to_string(status));
        return false;
    }
    support.reason[sizeof support.reason - 1] = 0;
    if (support.score <= 0)
        log.skip(each.name, "query", support.reason);
    return support.score > 0;
}

void compare_slices(const op_provider& tested, const op_case& each, const case_output& whole,
                    const std::vector<row_slice>& slices, bool promised, const char* check, check_log& log) {
    for (const row_slice slice : slices) {
        case_output part;
        if (!run_case(tested, each, slice, check, log, part))
            return;
        if (same_bits(part, part_of(whole, each, slice)))
            continue;
        const std::string found = "rows " + std::to_string(slice.begin) + " + " + std::to_string(slice.count) +
                                  " alone have other bits than among " + std::to_string(each.rows);
        return promised ? log.fail(each.name, check, found) : log.skip(each.name, check, "not promised: " + found);
    }
    if (promised)
        log.pass(each.name, check);
    else
        log.skip(each.name, check,
                 "not promised, but the same bits in all " + std::to_string(slices.size()) + " slices");
}

} // namespace moira

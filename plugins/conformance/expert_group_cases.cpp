// Cases of sorting pairs by expert on the device: ragged, empty experts, all to one, ranks that are left out.
#include "plugins/conformance/op_case.hpp"

#include <memory>

namespace moira {
namespace {

/// Ids of a step, shared by the runs of a case.
struct routed_step {
    moira_expert_groups_desc desc;
    std::vector<std::int32_t> ids; // [rows, top_k]
};

struct group_tables {
    std::vector<moira_expert_group> groups;
    std::vector<moira_expert_pair> pairs;
};

constexpr std::uint32_t first_generation = 100;

/// As the interface says it, expert by expert.
group_tables expected_tables(const routed_step& step, const std::vector<std::int32_t>& ids) {
    group_tables made;
    for (std::uint32_t expert = 0; expert < step.desc.experts; ++expert) {
        const auto begin = static_cast<std::uint32_t>(made.pairs.size());
        for (std::size_t pair = 0; pair < ids.size(); ++pair)
            if (ids[pair] == static_cast<std::int32_t>(expert))
                made.pairs.push_back(
                    {static_cast<std::int32_t>(pair / step.desc.top_k), static_cast<std::int32_t>(pair)});
        const auto count = static_cast<std::uint32_t>(made.pairs.size()) - begin;
        if (count > 0)
            made.groups.push_back({expert, first_generation + 7 * expert, begin, count});
    }
    made.pairs.resize(ids.size(), {-1, -1});
    return made;
}

template <class T>
bool equal_bytes(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// What the device made, or nothing when the number of groups is impossible.
group_tables run_tables(const routed_step& step, device_session& session, const std::vector<std::int32_t>& ids,
                        std::uint32_t rows, moira_error_word& error) {
    std::vector<std::uint32_t> generations(std::size_t{step.desc.experts} * 3);
    for (std::uint32_t expert = 0; expert < step.desc.experts; ++expert)
        generations[std::size_t{expert} * 3] = first_generation + 7 * expert;
    moira_expert_groups_args args{};
    args.rows = rows;
    args.generation_stride = 3;
    args.ids = session.upload(ids);
    args.generations = session.upload(generations);
    args.group_table = session.upload(std::vector<moira_expert_group>(step.desc.experts));
    args.pair_table = session.upload(std::vector<moira_expert_pair>(ids.size()));
    args.group_count = session.upload(std::vector<std::uint32_t>{UINT32_MAX});
    error = session.run(for_rows(step.desc, rows).header, args, &args.workspace);
    const auto count = session.download(args.group_count, 1).front();
    if (session.failed() || count > step.desc.experts)
        return {};
    return {session.download(args.group_table, count), session.download(args.pair_table, ids.size())};
}

/// The ids as they were given when every table is as it must be, else -2 everywhere: a row's output depends on its own
/// ids alone.
case_output run_step(const routed_step& step, device_session& session, row_slice slice) {
    const auto ids = rows_of(step.ids, step.desc.top_k, slice.begin, slice.count);
    case_output out;
    const auto made = run_tables(step, session, ids, slice.count, out.error);
    const auto expected = expected_tables(step, ids);
    const bool right = equal_bytes(made.groups, expected.groups) && equal_bytes(made.pairs, expected.pairs);
    out.ids = right ? ids : std::vector<std::int32_t>(ids.size(), -2);
    return out;
}

template <class Choose>
void add_step(std::vector<op_case>& cases, const char* name, std::uint32_t rows, std::uint32_t top_k,
              std::uint32_t experts, const Choose& choose) {
    auto step = std::make_shared<routed_step>();
    step->desc = make_desc<moira_expert_groups_desc>(MOIRA_OP_EXPERT_GROUPS, rows);
    step->desc.experts = experts;
    step->desc.top_k = top_k;
    for (std::uint32_t pair = 0; pair < rows * top_k; ++pair)
        step->ids.push_back(choose(pair / top_k, pair % top_k));
    cases.push_back({std::string("expert_groups ") + name + " " + std::to_string(rows) + " rows, " +
                         std::to_string(top_k) + " of " + std::to_string(experts),
                     desc_bytes(step->desc), false, rows, 0, top_k,
                     [step](device_session& session, row_slice slice) { return run_step(*step, session, slice); }});
}

std::int32_t nth(std::uint32_t id) {
    return static_cast<std::int32_t>(id);
}

} // namespace

void add_expert_group_cases(std::vector<op_case>& cases) {
    // Distinct within a row, as a router chooses.
    const auto spread = [](std::uint32_t step, std::uint32_t experts) {
        return [=](std::uint32_t row, std::uint32_t rank) { return nth((row * row * step + rank * 5) % experts); };
    };
    add_step(cases, "ragged", 37, 4, 23, spread(3, 23));
    add_step(cases, "one row", 1, 8, 128, spread(1, 128));
    add_step(cases, "many rows", 300, 6, 67, spread(11, 67)); // more pairs than a block has threads
    add_step(cases, "one expert", 3, 1, 1, [](auto, auto) { return 0; });
    add_step(cases, "all to one", 70, 1, 9, [](auto, auto) { return 7; });
    add_step(cases, "last and first", 9, 2, 40, [](auto row, auto rank) { return nth((row + rank) % 2 * 39); });
    add_step(cases, "left out", 21, 3, 8,
             [](auto row, auto rank) { return (row + rank) % 3 == 0 ? -1 : nth((row + 2 * rank) % 8); });
    add_step(cases, "nothing chosen", 5, 2, 4, [](auto, auto) { return -1; });
}

} // namespace moira

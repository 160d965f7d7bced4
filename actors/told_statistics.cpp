#include "actors/told_statistics.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>

namespace moira {

namespace {

using value_function = std::function<std::optional<double>(const char* path, std::string_view metric)>;

/// Whole numbers up to here are exact as floating point.
constexpr double count_max = 9007199254740992.0;

constexpr std::size_t levers_max = 16, lever_bytes_max = 64;

double positive(std::optional<double> told) {
    return told && *told > 0 && *told <= count_max ? *told : 0;
}

std::uint64_t whole(std::optional<double> told) {
    return static_cast<std::uint64_t>(positive(told));
}

expert_demand demand_of(const value_function& told, const std::string& path, const std::string& metric) {
    expert_demand demand;
    demand.hits = whole(told((path + "hits").c_str(), metric + "_hits"));
    demand.demand_loads = whole(told((path + "demand_loads").c_str(), metric + "_demand_loads"));
    return demand;
}

std::optional<expert_regret> regret_of(const value_function& told) {
    expert_regret regret;
    regret.uses = whole(told("/experts/regret/uses", "moira_expert_regret_window_uses"));
    regret.loads = whole(told("/experts/regret/loads", "moira_expert_regret_window_loads"));
    regret.optimal_loads = whole(told("/experts/regret/optimal_loads", "moira_expert_regret_optimal_loads"));
    return regret.uses == 0 ? std::nullopt : std::optional(regret);
}

expert_store_statistics experts_of(const value_function& told) {
    expert_store_statistics experts;
    const auto count = [&told](const char* path, std::string_view metric) { return whole(told(path, metric)); };
    const auto all = demand_of(told, "/experts/", "moira_expert");
    experts.hits = all.hits;
    experts.demand_loads = all.demand_loads;
    experts.drafted = demand_of(told, "/experts/drafted/", "moira_drafted_expert");
    experts.module = demand_of(told, "/experts/mtp/", "moira_mtp_expert");
    experts.slots = count("/experts/slots", "moira_expert_slots");
    experts.slots_all = count("/experts/experts", "moira_experts");
    experts.slot_bytes = count("/experts/slot_bytes", "moira_expert_slot_bytes");
    experts.slots_to_halve = count("/experts/slots_to_halve", "moira_expert_slots_to_halve");
    experts.bypass = count("/experts/bypass", "moira_expert_bypass") != 0;
    experts.evictions = count("/experts/evictions", "moira_expert_evictions");
    experts.prefetch_loads = count("/experts/prefetch_loads", "moira_expert_prefetch_loads");
    experts.prefetch_useful = count("/experts/prefetch_useful", "moira_expert_useful_prefetch_loads");
    experts.prefetch_wasted = count("/experts/prefetch_wasted", "moira_expert_wasted_prefetch_loads");
    experts.regret = regret_of(told);
    return experts;
}

std::optional<runtime_statistics> statistics_of(const value_function& told) {
    if (!told("/compute_s", "moira_compute_seconds"))
        return std::nullopt;
    runtime_statistics made;
    made.uptime_s = positive(told("/uptime_s", "moira_uptime_seconds"));
    made.compute_s = positive(told("/compute_s", "moira_compute_seconds"));
    made.stall_s = positive(told("/stall_s", "moira_step_stall_seconds"));
    made.experts = experts_of(told);
    return made;
}

/// What goes to a terminal: letters, digits and signs.
void add_lever(std::vector<std::string>& levers, std::string_view name) {
    const auto plain = [](char letter) { return letter > ' ' && letter <= '~'; };
    if (levers.size() < levers_max && !name.empty() && name.size() <= lever_bytes_max &&
        std::all_of(name.begin(), name.end(), plain))
        levers.emplace_back(name);
}

std::optional<double> number_of(std::string_view text) {
    double value = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (problem != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
        return std::nullopt;
    return value;
}

/// The value of the line that begins with `name` and a space.
std::optional<double> metric_of(std::string_view text, std::string_view name) {
    for (std::size_t at = text.find(name); at != std::string_view::npos; at = text.find(name, at + 1)) {
        const auto behind = at + name.size();
        if ((at != 0 && text[at - 1] != '\n') || behind >= text.size() || text[behind] != ' ')
            continue;
        const auto end = std::min(text.find('\n', behind), text.size());
        return number_of(text.substr(behind + 1, end - behind - 1));
    }
    return std::nullopt;
}

std::vector<std::string> levers_of(std::string_view metrics) {
    constexpr std::string_view label = ",lossy=\"";
    std::vector<std::string> levers;
    const auto info = metrics.find("\nmoira_info{");
    const auto line = info == std::string_view::npos ? std::string_view() : metrics.substr(info + 1);
    const auto at = line.substr(0, line.find('\n')).find(label);
    if (at == std::string_view::npos)
        return levers;
    auto names = line.substr(at + label.size());
    names = names.substr(0, names.find('"'));
    while (!names.empty()) {
        const auto name = names.substr(0, names.find(','));
        add_lever(levers, name);
        names.remove_prefix(std::min(name.size() + 1, names.size()));
    }
    return levers;
}

} // namespace

std::optional<runtime_statistics> told_statistics(const nlohmann::json& stats) {
    const auto told = [&stats](const char* path, std::string_view) -> std::optional<double> {
        const nlohmann::json::json_pointer where(path);
        if (!stats.is_object() || !stats.contains(where))
            return std::nullopt;
        const auto& value = stats[where];
        if (value.is_boolean())
            return value.get<bool>() ? 1.0 : 0.0;
        return value.is_number() ? std::optional(value.get<double>()) : std::nullopt;
    };
    auto made = statistics_of(told);
    if (!made)
        return made;
    if (const auto levers = stats.find("lossy"); levers != stats.end() && levers->is_array())
        for (const auto& name : *levers)
            if (name.is_string())
                add_lever(made->identity.lossy, name.get_ref<const std::string&>());
    return made;
}

std::optional<runtime_statistics> told_statistics(std::string_view metrics) {
    auto made = statistics_of([metrics](const char*, std::string_view name) { return metric_of(metrics, name); });
    if (made)
        made->identity.lossy = levers_of(metrics);
    return made;
}

runtime_statistics statistics_between(const runtime_statistics& before, const runtime_statistics& after) {
    if (after.uptime_s < before.uptime_s)
        return after;
    auto grown = after;
    grown.compute_s = std::max(0.0, after.compute_s - before.compute_s);
    grown.stall_s = std::max(0.0, after.stall_s - before.stall_s);
    grown.experts = after.experts.since(before.experts);
    return grown;
}

} // namespace moira

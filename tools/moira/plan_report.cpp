#include "tools/moira/plan_report.hpp"

#include "core/plan/plan_sentences.hpp"
#include "tools/moira/text_table.hpp"

#include <array>
#include <cstdio>

namespace moira {

namespace {

using nlohmann::ordered_json;

ordered_json or_null(const std::optional<double>& value) {
    return value ? ordered_json(*value) : ordered_json(nullptr);
}

std::optional<double> tok_s_of(const std::optional<speed_estimate>& speed) {
    return speed ? std::optional(speed->tok_s) : std::nullopt;
}

ordered_json speed_json(const std::optional<speed_estimate>& speed) {
    if (!speed)
        return nullptr;
    return {{"hit_rate", speed->hit_rate},
            {"tok_s", speed->tok_s},
            {"tok_s_overlapped", speed->tok_s_overlapped},
            {"step_s", speed->step_s},
            {"dense_s", speed->dense_s},
            {"kv_s", speed->kv_s},
            {"experts_s", speed->experts_s},
            {"overhead_s", speed->overhead_s},
            {"loaders_s", speed->loaders_s},
            {"compute_s", speed->compute_s},
            {"reads_s", speed->reads_s},
            {"stall_s", speed->stall_s},
            {"between_s", speed->between_s},
            {"disk_bytes_per_token", speed->disk_bytes_per_token}};
}

ordered_json machine_json(const planned_machine& machine) {
    return {{"memory_bytes", machine.memory_bytes},
            {"memory_gb_s", machine.speed.memory_gb_s},
            {"disk_gb_s", or_null(machine.speed.disk_gb_s)},
            {"read_cpu_s", machine.speed.read_cpu_s},
            {"pack_s", machine.speed.pack_s},
            {"sharing_threads", machine.speed.sharing_threads},
            {"source",
             {{"memory_bytes", machine.memory_source},
              {"memory_gb_s", machine.memory_speed_source},
              {"disk_gb_s", machine.disk_source}}}};
}

ordered_json memory_json(const budget_plan& plan) {
    return {{"dense_bytes", plan.dense_bytes},     {"kv_bytes", plan.kv_bytes},
            {"arena_bytes", plan.arena_bytes},     {"loader_bytes", plan.loader_bytes},
            {"reserve_bytes", plan.reserve_bytes}, {"budget_bytes", plan.budget_bytes},
            {"min_bytes", plan.memory_bytes_min},  {"all_bytes", plan.memory_bytes_all}};
}

ordered_json experts_json(const plan_answer& answer) {
    const auto& plan = answer.plan.budget;
    return {{"slot_bytes", answer.demands.slot_bytes},
            {"disk_bytes", answer.demands.disk_bytes},
            {"slots", plan.slots},
            {"slots_min", plan.slots_min},
            {"slots_floor", plan.slots_floor},
            {"slots_all", plan.slots_all},
            {"per_token", answer.demands.experts_per_token()},
            {"resident_share", plan.resident_share()},
            {"hit_rate_range", {answer.plan.expected_hit_rate, answer.plan.hit_rate_high}},
            {"hit_rate_source", answer.hit_source}};
}

/// What makes a run use this plan; empty where the usual settings do.
ordered_json settings_json(const plan_answer& answer) {
    auto settings = ordered_json::object();
    const auto& plan = answer.plan.budget;
    if (plan.placed && plan.slots < plan.slots_all)
        settings["experts.ram_budget"] = plan.slots * answer.demands.slot_bytes;
    if (answer.wish.context != answer.demands.shape.context_max)
        settings["context.max_tokens"] = answer.wish.context;
    return settings;
}

/// Arithmetic for a device that is described, whether it is here or not.
ordered_json vram_json(const plan_answer& answer) {
    if (!answer.device)
        return nullptr;
    const auto& plan = answer.on_device;
    return {{"bytes", answer.device->memory_bytes},
            {"memory_gb_s", answer.device->memory_gb_s},
            {"link_gb_s", answer.device->link_gb_s},
            {"dense_fits", plan.dense_fits},
            {"slots", plan.slots},
            {"hit_rate", plan.hit_rate},
            {"host_hit_rate", plan.host_hit_rate},
            {"speed", speed_json(plan.speed)}};
}

/// One part of a token's time.
ordered_json part_json(double estimated_s, double measured_s) {
    return {{"estimated", estimated_s},
            {"measured", measured_s},
            {"ratio", estimated_s > 0 ? ordered_json(measured_s / estimated_s) : ordered_json(nullptr)}};
}

ordered_json parts_json(const plan_verification& verified) {
    if (!verified.estimate)
        return nullptr;
    const auto& estimate = *verified.estimate;
    return {{"compute_s", part_json(estimate.compute_s, verified.compute_s)},
            {"stall_s", part_json(estimate.stall_s, verified.stall_s)},
            {"between_s", part_json(estimate.between_s, verified.between_s)}};
}

ordered_json verification_json(const std::optional<plan_verification>& verified) {
    if (!verified)
        return nullptr;
    return {{"decode_tok_s", verified->decode_tok_s},
            {"hit_rate", verified->hit_rate},
            {"ratio", verified->ratio},
            {"ratio_at_measured_hit_rate", verified->ratio_of_time_model},
            {"estimate_at_measured_hit_rate", speed_json(verified->estimate)},
            {"parts", parts_json(*verified)},
            {"memory_gb_s", verified->memory_gb_s},
            {"disk_gb_s", verified->disk_gb_s > 0 ? ordered_json(verified->disk_gb_s) : ordered_json(nullptr)},
            {"context", verified->context},
            {"tokens", verified->tokens},
            {"slots", verified->slots},
            {"holds", verified->holds}};
}

std::string number(const char* format, double value) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), format, value);
    return text.data();
}

std::string rate_text(double share) {
    return number("%.1f %%", 100 * share);
}

std::string ms(double seconds) {
    return number("%.2f", 1e3 * seconds);
}

std::string vram_text(const plan_answer& answer) {
    const auto& plan = answer.on_device;
    const auto size = rounded_bytes(answer.device->memory_bytes);
    if (!plan.dense_fits)
        return size + " would hold not even what is outside experts";
    return size + " would hold everything outside experts and " + std::to_string(plan.slots) + " of " +
           std::to_string(answer.plan.budget.slots_all) + " experts, hit rate " + rate_text(plan.hit_rate) +
           (plan.hit_rate < 1 ? "; of the others, " + rate_text(plan.host_hit_rate) + " come from memory" : "") +
           (plan.speed ? number("; %.3g tokens/s", plan.speed->tok_s)
                       : "; --vram-gb-s and --link-gb-s tell how fast that would be");
}

std::string given(double gb_s, const std::string& source) {
    return number("%.2f GB/s, ", gb_s) + source;
}

void add_memory(text_table& table, const plan_answer& answer) {
    const auto& plan = answer.plan.budget;
    table.add({"memory", rounded_bytes(plan.memory_bytes) + ", " + answer.machine.memory_source});
    table.add({"  outside experts", rounded_bytes(plan.dense_bytes)});
    table.add({"  KV cache", rounded_bytes(plan.kv_bytes) + (answer.demands.kv_value_bytes == 2 ? ", bf16" : ", f32") +
                                 ", a context of " + std::to_string(answer.wish.context) + " tokens"});
    table.add({"  steps, loading, program", rounded_bytes(plan.arena_bytes) + " + " + rounded_bytes(plan.loader_bytes) +
                                                " + " + rounded_bytes(plan.reserve_bytes)});
    table.add({"  experts", rounded_bytes(plan.budget_bytes) + ": " + std::to_string(plan.slots) + " of " +
                                std::to_string(plan.slots_all) + " slots of " +
                                rounded_bytes(answer.demands.slot_bytes)});
    table.add({"  needed", rounded_bytes(plan.memory_bytes_min) + " at least, " + rounded_bytes(plan.memory_bytes_all) +
                               " for everything"});
}

void add_speed(text_table& table, const char* name, const std::optional<speed_estimate>& speed) {
    if (!speed)
        return;
    table.add({name, number("%.3g tokens/s: ", speed->tok_s) + ms(speed->step_s) + " ms = " + ms(speed->dense_s) +
                         " dense + " + ms(speed->kv_s) + " KV + " + ms(speed->experts_s) + " experts + " +
                         ms(speed->overhead_s + speed->between_s) + " between ops and steps + " +
                         (speed->loaders_s > 0 ? ms(speed->loaders_s) + " loaders' share + " : "") +
                         ms(speed->stall_s) + " waiting for " + ms(speed->reads_s) + " of reads"});
}

/// "compute 101.20 ms, 1.05 of the estimate".
std::string part_text(const char* name, double estimated_s, double measured_s) {
    return std::string(name) + " " + ms(measured_s) + " ms" +
           (estimated_s > 0 ? number(", %.2f of the estimated ", measured_s / estimated_s) + ms(estimated_s) : "");
}

void add_verification(text_table& table, const plan_answer& answer) {
    const auto& verified = *answer.verified;
    table.add({"measured", number("%.3g tokens/s", verified.decode_tok_s) + ", hit rate " +
                               rate_text(verified.hit_rate) + ", " + std::to_string(verified.tokens) + " tokens"});
    const auto& plan = answer.plan;
    const bool range = plan.speed_high && plan.speed_high->tok_s > plan.speed->tok_s;
    table.add({"  against the estimate", number("%.2f of ", verified.ratio) + number("%.3g", plan.speed->tok_s) +
                                             (range ? number(" to %.3g", plan.speed_high->tok_s) : "") + " tokens/s" +
                                             (verified.holds ? "" : ": it does not hold")});
    if (!verified.estimate)
        return;
    const auto& estimate = *verified.estimate;
    table.add({"  at this hit rate",
               number("%.2f of ", verified.ratio_of_time_model) + number("%.3g tokens/s", estimate.tok_s) +
                   number(", memory at %.1f GB/s", verified.memory_gb_s) +
                   (verified.disk_gb_s > 0 ? number(", disk at %.2f GB/s: ", verified.disk_gb_s) : ": ") +
                   part_text("compute", estimate.compute_s, verified.compute_s) + "; " +
                   part_text("waiting", estimate.stall_s, verified.stall_s) + "; " +
                   part_text("between steps", estimate.between_s, verified.between_s)});
}

} // namespace

ordered_json plan_json(const plan_answer& answer) {
    const auto& plan = answer.plan;
    ordered_json fp8 = nullptr;
    if (answer.fp8)
        fp8 = {{"slots", answer.fp8->budget.slots},
               {"expected_hit_rate", answer.fp8->expected_hit_rate},
               {"expected_decode_tok_s", or_null(tok_s_of(answer.fp8->speed))},
               {"speed", speed_json(answer.fp8->speed)}};
    ordered_json more = nullptr;
    if (plan.more)
        more = {{"bytes", plan.more->bytes}, {"tok_s", plan.more->tok_s}};
    return {{"model", answer.model},
            {"fits", plan.budget.fits},
            {"slots", plan.budget.slots},
            {"expected_hit_rate", plan.budget.placed ? ordered_json(plan.expected_hit_rate) : ordered_json(nullptr)},
            {"expected_decode_tok_s", or_null(tok_s_of(plan.speed))},
            {"reasons", plan.budget.reasons},
            {"sentence", plan_sentence(plan)},
            {"context", answer.wish.context},
            {"settings", settings_json(answer)},
            {"machine", machine_json(answer.machine)},
            {"memory", memory_json(plan.budget)},
            {"experts", experts_json(answer)},
            {"speed", speed_json(plan.speed)},
            {"speed_high", speed_json(plan.speed_high)},
            {"more_memory", more},
            {"fp8", fp8},
            {"vram", vram_json(answer)},
            {"verified", verification_json(answer.verified)}};
}

std::string plan_text(const plan_answer& answer, bool colour) {
    const auto& plan = answer.plan;
    text_table table({answer.model, ""});
    add_memory(table, answer);
    table.add({"memory speed", given(answer.machine.speed.memory_gb_s, answer.machine.memory_speed_source)});
    table.add({"disk speed", answer.machine.speed.disk_gb_s
                                 ? given(*answer.machine.speed.disk_gb_s, answer.machine.disk_source) +
                                       (answer.machine.speed.pack_s > 0
                                            ? "; packing one takes " + ms(answer.machine.speed.pack_s) + " ms"
                                            : "")
                                 : answer.machine.disk_source});
    if (plan.budget.placed) {
        table.add({"hit rate", (plan.hit_rate_high > plan.expected_hit_rate
                                    ? rate_text(plan.expected_hit_rate) + " to " + rate_text(plan.hit_rate_high)
                                    : rate_text(plan.expected_hit_rate)) +
                                   ", " + answer.hit_source});
        add_speed(table, "speed", plan.speed);
        if (plan.hit_rate_high > plan.expected_hit_rate)
            add_speed(table, "  at the higher rate", plan.speed_high);
    }
    if (answer.fp8 && answer.fp8->speed)
        table.add({"with experts.precision=fp8", number("%.3g tokens/s, ", answer.fp8->speed->tok_s) +
                                                     std::to_string(answer.fp8->budget.slots) + " slots, hit rate " +
                                                     rate_text(answer.fp8->expected_hit_rate) + "; lossy"});
    if (answer.device)
        table.add({"VRAM", vram_text(answer)});
    if (answer.verified)
        add_verification(table, answer);
    std::string settings;
    const auto wanted = settings_json(answer);
    for (const auto& [key, value] : wanted.items())
        settings += (settings.empty() ? "--set " : " --set ") + key + "=" + value.dump();
    if (plan.budget.placed && !settings.empty())
        table.add({"settings", settings});
    if (plan.budget.placed)
        for (const auto& reason : plan.budget.reasons)
            table.add({"note", reason});
    return table.print(colour) + "\n" + plan_sentence(plan) + "\n";
}

} // namespace moira

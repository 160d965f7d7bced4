#pragma once

#include "core/plan/device_plan.hpp"
#include "core/plan/model_plan.hpp"

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace moira {

/// The machine that a plan is for, and where its figures come from: "probed", "given", or "unknown".
struct planned_machine {
    std::uint64_t memory_bytes = 0;
    machine_speed speed;
    std::string memory_source, memory_speed_source, disk_source;
};

/// What a run with the plan's budget measured.
struct plan_verification {
    double hit_rate = 0, decode_tok_s = 0;
    double compute_s = 0, stall_s = 0;      ///< of a token: computing, waiting for experts
    double between_s = 0;                   ///< of a token: the rest
    std::optional<speed_estimate> estimate; ///< for hit_rate, context and the probes; none: there can be none
    double ratio = 0;                       ///< measured / estimated speed, the nearer end of the range
    double ratio_of_time_model = 0;         ///< the same with `estimate`; 0: none
    double memory_gb_s = 0;                 ///< probed beside the run, before the model was loaded and after
    double disk_gb_s = 0;                   ///< the same; 0: not probed
    std::int32_t tokens = 0;
    std::int32_t context = 0; ///< tokens before the one that is generated, on average
    std::uint64_t slots = 0;  ///< that the store really made
    bool holds = false;       ///< within verified_factor_max
};

/// Everything that `moira plan` says.
struct plan_answer {
    std::string model;
    model_demands demands;
    plan_wish wish;
    planned_machine machine;
    model_plan plan;
    std::optional<model_plan> fp8;             ///< with experts.precision=fp8, where that would differ
    std::string hit_source;                    ///< what the hit rate rests on, for people
    std::optional<planned_device> device;      ///< --vram
    device_plan on_device;                     ///< of it
    std::optional<plan_verification> verified; ///< --verify
};

nlohmann::ordered_json plan_json(const plan_answer& answer);
std::string plan_text(const plan_answer& answer, bool colour);

} // namespace moira

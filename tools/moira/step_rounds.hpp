#pragma once

#include "tools/moira/op_bench.hpp"

namespace moira {

/// The steps of one size in all rounds, and what follows from them.
class step_rounds final {
public:
    step_rounds(std::int32_t rows, bool prefill) : rows_(rows), prefill_(prefill) {}

    std::int32_t rows() const noexcept { return rows_; }
    bool prefill() const noexcept { return prefill_; }

    void begin_round() { rounds_.emplace_back(); }

    /// One step; `watched`: op by op. Steps that waited for experts do not count. Errors: those of the step.
    result<void> run(engine& model, const step_plan& plan, bool watched);

    /// The probes stood before each round and after the last one.
    step_timing summary(const std::vector<double>& probe_gb_s, const std::vector<flop_peaks>& peaks) const;

    /// The plugin that runs the routed experts; null before a watched step.
    const op_provider* expert_provider() const noexcept { return expert_provider_; }

private:
    /// All calls of one op in a step.
    struct op_sum {
        std::uint64_t calls = 0;
        double seconds = 0;
        op_cost cost; ///< of all calls
    };
    using op_key = std::pair<std::string, std::string>; ///< op and detail
    using op_sums = std::map<op_key, op_sum>;

    struct round {
        std::vector<double> step_seconds; ///< not watched
        std::vector<op_sums> watched;
        std::vector<double> experts; ///< of the watched ones: distinct experts over all layers
    };
    /// What stood beside a round.
    struct bounds {
        double probe_gb_s = 0;
        flop_peaks peaks;
    };

    class recorder;

    op_timing summary_of(const op_key& key, const std::vector<bounds>& beside) const;
    void add_step_rates(step_timing& step, const std::vector<bounds>& beside) const;
    double peak_of(const bounds& beside, const op_cost& cost) const;

    std::int32_t rows_;
    bool prefill_;
    std::vector<round> rounds_;
    std::map<op_key, std::string> plugins_;
    const op_provider* expert_provider_ = nullptr;
    bool bf16_ = false; ///< products are computed in BF16
};

} // namespace moira

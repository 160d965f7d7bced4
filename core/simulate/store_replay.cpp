#include "core/simulate/store_replay.hpp"

#include "core/experts/layer_counters.hpp"
#include "core/experts/residency_table.hpp"
#include "core/simulate/simulated_link.hpp"

#include <algorithm>
#include <deque>
#include <utility>

namespace moira {
namespace {

/// Between two calls of `progress`.
constexpr std::size_t progress_steps = 256;

/// Layers of all published models, and ten times more.
constexpr std::int32_t model_layers_max = 1 << 16;

/// Rows of a step up to which an engine predicts.
constexpr std::size_t hint_rows_max = 64;

class replayed_store {
public:
    replayed_store(const expert_walk& walk, const replay_options& options, std::int32_t model_layers,
                   eviction_policy& policy, trace_predictor* predictor)
        : walk_(walk), trace_(walk.trace()), options_(options), geometry_(geometry_of(options, trace_)),
          bypass_policy_(make_lru_policy(true)), predictor_(predictor),
          table_({.layers = model_layers,
                  .experts = static_cast<std::int32_t>(trace_.experts),
                  .slots_max = options.slots,
                  .base_address = 1, // an entry with address 0 shows nothing
                  .slot_bytes = 1,
                  .layout_id = 0,
                  .pass_waves = trace_.layers}),
          hints_(static_cast<std::int32_t>(trace_.experts)), rows_(trace_.experts),
          link_([this](double now_s) { return next_speculative(now_s); },
                [this](const speculative_read& read) { table_.complete(read.slot); }),
          layer_of_(static_cast<std::size_t>(model_layers)), by_layer_(model_layers) {
        counts_.bypass = static_cast<std::uint64_t>(options.slots) < slots_floor(trace_);
        policy_ = counts_.bypass && !policy.works_below_floor() ? bypass_policy_.get() : &policy;
        counts_.policy = policy_->name();
        hints_.policy = options.prefetch;
        table_.configure(options.slots, *policy_);
        for (std::uint32_t layer = 0; layer < trace_.layers; ++layer)
            layer_of_[trace_.layer_numbers[layer]] = layer;
    }

    void play(std::size_t step) {
        for (std::uint32_t layer = 0; layer < trace_.layers; ++layer)
            visit(step, layer);
        compute(geometry_.head_s());
        ++counts_.steps;
        counts_.tokens += walk_.rows(step).size();
    }

    replay_counts totals() const;

private:
    /// A lease: experts that stay until it is over.
    struct wave {
        std::vector<residency_table::pin> pins;
        std::vector<double> arrivals_s; ///< of each that was not resident
    };

    static replay_geometry geometry_of(const replay_options& options, const route_trace& trace) {
        if (options.geometry)
            return *options.geometry;
        replay_geometry weightless;
        weightless.expert_bytes.assign(trace.layers, 1);
        weightless.dense_bytes.assign(trace.layers, 0);
        return weightless;
    }

    void visit(std::size_t step, std::uint32_t layer);
    wave next_wave(std::uint32_t layer);
    wave acquire(std::uint32_t layer, std::size_t count);
    void play_wave(std::uint32_t layer, const wave& now);
    void collect_prompt_only(std::size_t step, std::uint32_t layer);
    void give_hints(std::size_t step, std::uint32_t layer);
    void hint(std::size_t step, std::uint32_t layer, std::size_t visits);
    std::optional<speculative_read> next_speculative(double now_s);
    bool worth_loading(float probability, residency_table::speculative_room room) const;
    prefetch_figures measured() const;
    std::vector<layer_statistics> layer_rows() const;

    /// The clock goes on; the link speculates meanwhile.
    void pass_until(double then_s) {
        link_.advance(now_s_, then_s);
        now_s_ = std::max(now_s_, then_s);
    }
    void compute(double seconds) {
        counts_.compute_s += seconds;
        pass_until(now_s_ + seconds);
    }
    void stall_until(double then_s, std::int32_t layer) {
        if (then_s <= now_s_)
            return;
        counts_.stall_s += then_s - now_s_;
        by_layer_.waited(layer, then_s - now_s_);
        pass_until(then_s);
    }

    const expert_walk& walk_;
    const route_trace& trace_;
    const replay_options options_;
    const replay_geometry geometry_;
    std::unique_ptr<eviction_policy> bypass_policy_;
    eviction_policy* policy_ = nullptr;
    trace_predictor* predictor_;
    residency_table table_;
    prefetch_hints hints_;
    prediction_union rows_;
    simulated_link link_;
    std::vector<std::uint32_t> layer_of_; // [model's layers]: the recording's
    double now_s_ = 0;
    layer_counters by_layer_;
    std::uint64_t met_by_demand_ = 0; // waves with demand loads that found a speculative one running
    replay_counts counts_;

    // of the visit at hand
    std::vector<std::int32_t> order_, prompt_only_; // its experts, the resident ones first
    std::size_t residents_ = 0, next_ = 0;          // of the order: resident when the visit began; not asked for yet
    std::deque<wave> travelling_;
    bool hinted_now_ = false;

    // between calls empty
    std::vector<predicted_expert> predicted_;
    std::vector<expert_hint> hinted_, absent_;
};

void replayed_store::visit(std::size_t step, std::uint32_t layer) {
    compute(geometry_.dense_s(layer));
    const auto wanted = walk_.experts(step, layer);
    order_.assign(wanted.begin(), wanted.end());
    const auto* entries = table_.entries(trace_.layer_numbers[layer]);
    // As the layer loop does: a wave that loads must not evict what a later wave of the same step would have found.
    const auto absent = std::stable_partition(order_.begin(), order_.end(), [entries](std::int32_t expert) {
        return entries[static_cast<std::size_t>(expert)].address != 0;
    });
    residents_ = static_cast<std::size_t>(absent - order_.begin());
    collect_prompt_only(step, layer);
    next_ = 0;
    hinted_now_ = false;
    while (next_ < order_.size() || !travelling_.empty()) {
        wave now = next_wave(layer);
        if (next_ == order_.size() && !std::exchange(hinted_now_, true))
            give_hints(step, layer);
        play_wave(layer, now);
    }
    if (predictor_)
        for (const auto at : walk_.rows(step))
            predictor_->observe(at, layer);
}

/// Experts that nothing but rows of a prompt wants, ascending.
void replayed_store::collect_prompt_only(std::size_t step, std::uint32_t layer) {
    prompt_only_.clear();
    const auto rows = walk_.rows(step);
    const auto of_prompt = [this](route_position at) { return at.token < trace_.sequences[at.sequence].prompt_tokens; };
    if (std::none_of(rows.begin(), rows.end(), of_prompt))
        return;
    const auto wanted = walk_.experts(step, layer);
    prompt_only_.assign(wanted.begin(), wanted.end());
    for (const auto at : rows)
        if (!of_prompt(at))
            for (const auto id : trace_.ids(trace_.sequences[at.sequence], at.token, layer))
                std::erase(prompt_only_, id);
}

/// The next wave to compute, as the layer loop takes them: residents together, then each absent expert in a wave of its
/// own, a few of them sent for ahead of their turn.
replayed_store::wave replayed_store::next_wave(std::uint32_t layer) {
    wave now;
    std::size_t absent = 0;
    if (next_ < residents_) {
        now = acquire(layer, std::min(residents_ - next_, static_cast<std::size_t>(options_.slots)));
    } else if (absent = 1; travelling_.empty()) {
        now = acquire(layer, 1);
    } else {
        now = std::move(travelling_.front());
        travelling_.pop_front();
    }
    while (next_ >= residents_ && next_ < order_.size() && travelling_.size() + absent < options_.travelling_max &&
           table_.fits(trace_.layer_numbers[layer], std::span(order_).subspan(next_, 1)))
        travelling_.push_back(acquire(layer, 1));
    return now;
}

/// Pins the next experts of the order and begins the loads of those that are absent.
replayed_store::wave replayed_store::acquire(std::uint32_t layer, std::size_t count) {
    const std::int32_t number = trace_.layer_numbers[layer];
    const auto experts = std::span(order_).subspan(next_, count);
    while (link_.running() && !table_.fits(number, experts))
        stall_until(link_.running()->end_s, number);
    hints_.wave_begins(number, simulated_time(now_s_));
    wave taken;
    table_.pin_wave(number, experts, taken.pins, prompt_only_, next_ > 0);
    next_ += count;
    ++counts_.waves;
    bool met = false;
    for (const auto& pin : taken.pins) {
        const bool resident = pin.state == slot_state::resident;
        if (pin.speculative || pin.state == slot_state::empty) {
            hints_.missed(number, pin.expert);
            by_layer_.hinted(number, hints_.counts());
        }
        double arrival_s = 0;
        if (pin.state == slot_state::loading)
            arrival_s = link_.running()->end_s; // one read at most is on its way without having been asked for
        if (pin.state == slot_state::empty) {
            met = link_.running().has_value();
            by_layer_.loading(number);
            arrival_s = link_.load(now_s_, geometry_.read_s(layer));
            counts_.bytes += geometry_.expert_bytes[layer];
        }
        taken.arrivals_s.push_back(arrival_s);
        counts_.prefetch_joined += pin.state == slot_state::loading;
        ++(resident ? counts_.hits : counts_.demand_loads);
        by_layer_.visited({number, pin.expert}, resident, pin.speculative);
    }
    met_by_demand_ += met;
    return taken;
}

/// Residents are computed first, then the others as they arrive.
void replayed_store::play_wave(std::uint32_t layer, const wave& now) {
    const auto residents = std::count_if(now.pins.begin(), now.pins.end(), [](const residency_table::pin& pin) {
        return pin.state == slot_state::resident;
    });
    compute(static_cast<double>(residents) * geometry_.expert_s(layer));
    for (std::size_t i = 0; i < now.pins.size(); ++i) {
        if (now.pins[i].state == slot_state::resident)
            continue;
        stall_until(now.arrivals_s[i], trace_.layer_numbers[layer]);
        if (now.pins[i].state == slot_state::empty)
            table_.complete(now.pins[i].slot);
        compute(geometry_.expert_s(layer));
    }
    for (const auto& pin : now.pins)
        table_.unpin(pin.slot);
}

void replayed_store::give_hints(std::size_t step, std::uint32_t layer) {
    if (!predictor_)
        return;
    for (std::uint32_t ahead = 1; ahead <= options_.layers_ahead; ++ahead) {
        const std::size_t of_step = step + (std::size_t{layer} + ahead) / trace_.layers;
        // More rows together choose nearly every expert of a layer, so a prediction would say nothing.
        if (of_step < walk_.steps() && walk_.rows(of_step).size() <= hint_rows_max)
            hint(of_step, (layer + ahead) % trace_.layers, ahead);
    }
}

void replayed_store::hint(std::size_t step, std::uint32_t layer, std::size_t visits) {
    for (const auto at : walk_.rows(step)) {
        predictor_->predict(at, layer, predicted_);
        rows_.add(predicted_);
        predicted_.clear();
    }
    const std::int32_t number = trace_.layer_numbers[layer];
    for (const auto& predicted : rows_.take()) {
        hinted_.push_back({predicted.expert, predicted.probability});
        if (!table_.holds({number, predicted.expert}))
            absent_.push_back(hinted_.back());
    }
    table_.hinted(number, hinted_);
    hints_.give(number, absent_, hinted_.size(), simulated_time(now_s_), visits);
    hinted_.clear();
    absent_.clear();
}

std::optional<speculative_read> replayed_store::next_speculative(double now_s) {
    while (const auto hint = hints_.take()) {
        const expert_id expert{hint->layer, hint->expert};
        const bool may_evict = !counts_.bypass;
        const auto room = table_.holds(expert) ? residency_table::speculative_room::none
                                               : table_.room_for_speculation(expert, may_evict);
        const auto slot =
            worth_loading(hint->probability, room) ? table_.take_speculative(expert, may_evict) : std::nullopt;
        if (!slot) {
            hints_.refuse();
            continue;
        }
        const auto layer = layer_of_[static_cast<std::size_t>(expert.layer)];
        counts_.bytes += geometry_.expert_bytes[layer];
        by_layer_.loading_ahead(expert.layer);
        return speculative_read{*slot, expert, now_s + geometry_.read_s(layer)};
    }
    return std::nullopt;
}

bool replayed_store::worth_loading(float probability, residency_table::speculative_room room) const {
    if (room == residency_table::speculative_room::none || hints_.policy.mode == prefetch_mode::off)
        return false;
    const bool evicts = room == residency_table::speculative_room::evicts;
    return hints_.policy.mode == prefetch_mode::always ||
           estimate_prefetch(static_cast<double>(probability), evicts, hints_.policy.idle_core, measured())
               .worthwhile();
}

/// As the store measures; what it times is known here.
prefetch_figures replayed_store::measured() const {
    const auto share = [](double part, std::uint64_t whole) {
        return whole == 0 ? 0.0 : part / static_cast<double>(whole);
    };
    const auto& speculation = table_.speculation();
    prefetch_figures figures;
    figures.stall_per_load_s = share(counts_.stall_s, counts_.demand_loads);
    figures.lead_s = hints_.lead_s();
    figures.read_s = geometry_.read_s(0);
    figures.cpu_s = geometry_.pack_s;
    figures.contention = share(static_cast<double>(met_by_demand_), speculation.taken);
    figures.regret = share(static_cast<double>(speculation.regretted), speculation.evictions);
    return figures;
}

/// Every layer of the recording has one, visited or not.
std::vector<layer_statistics> replayed_store::layer_rows() const {
    std::vector<layer_statistics> rows(trace_.layers);
    for (std::uint32_t layer = 0; layer < trace_.layers; ++layer)
        rows[layer].layer = trace_.layer_numbers[layer];
    for (auto& counted : by_layer_.shown(table_, 0)) {
        auto& row = rows[layer_of_[static_cast<std::size_t>(counted.layer)]];
        row = counted;
        row.prefetch_wasted_bytes =
            row.prefetch_wasted * geometry_.expert_bytes[layer_of_[static_cast<std::size_t>(counted.layer)]];
    }
    return rows;
}

replay_counts replayed_store::totals() const {
    replay_counts sum = counts_;
    const auto& speculation = table_.speculation();
    sum.evictions = table_.evictions();
    sum.prefetch_loads = speculation.taken;
    sum.prefetch_useful = speculation.used;
    sum.prefetch_wasted = speculation.unused;
    sum.prefetch_open = table_.speculative_slots();
    sum.hints = hints_.counts();
    sum.link_s = link_.busy_s();
    sum.seconds = sum.compute_s + sum.stall_s;
    sum.layers = layer_rows();
    return sum;
}

/// `sum` without what was counted `before`.
replay_counts difference(replay_counts sum, const replay_counts& before) {
    for (const auto counter : {&replay_counts::steps, &replay_counts::tokens, &replay_counts::waves,
                               &replay_counts::hits, &replay_counts::demand_loads, &replay_counts::evictions,
                               &replay_counts::prefetch_loads, &replay_counts::prefetch_useful,
                               &replay_counts::prefetch_wasted, &replay_counts::prefetch_joined, &replay_counts::bytes})
        sum.*counter -= before.*counter;
    for (const auto counter : {&hint_counts::given, &hint_counts::refused, &hint_counts::cancelled,
                               &hint_counts::absent, &hint_counts::absent_chosen, &hint_counts::misses})
        sum.hints.*counter -= before.hints.*counter;
    for (const auto time :
         {&replay_counts::seconds, &replay_counts::compute_s, &replay_counts::stall_s, &replay_counts::link_s})
        sum.*time -= before.*time;
    for (std::size_t layer = 0; layer < before.layers.size(); ++layer)
        sum.layers[layer] = sum.layers[layer].since(before.layers[layer]);
    return sum;
}

result<std::int32_t> check(const route_trace& trace, const replay_options& options) {
    const auto last = trace.layer_numbers.empty() ? 0 : trace.layer_numbers.back();
    const std::int32_t model_layers = options.model_layers == 0 ? last + 1 : options.model_layers;
    if (trace.layer_numbers.size() != trace.layers || model_layers <= last || model_layers > model_layers_max)
        return fail(errc::invalid_argument, "a model of " + std::to_string(model_layers) +
                                                " layers does not have the recording's, which go up to " +
                                                std::to_string(last));
    const auto all = std::uint64_t{trace.layers} * trace.experts;
    if (options.slots < 1 || static_cast<std::uint64_t>(options.slots) < trace.top_k)
        return fail(errc::invalid_argument, std::to_string(options.slots) + " slots, but one token needs " +
                                                std::to_string(trace.top_k) + " at once");
    if (static_cast<std::uint64_t>(options.slots) > all)
        return fail(errc::invalid_argument,
                    std::to_string(options.slots) + " slots for a model of " + std::to_string(all) + " experts");
    if (options.geometry &&
        (options.geometry->expert_bytes.size() != trace.layers || options.geometry->dense_bytes.size() != trace.layers))
        return fail(errc::invalid_argument, "the geometry is that of another number of layers");
    if (options.travelling_max < 1)
        return fail(errc::invalid_argument, "at least one absent expert must be sent for at a time");
    if (options.layers_ahead > std::min<std::size_t>(trace.layers, hint_visits_max))
        return fail(errc::invalid_argument,
                    "hints reach at most " + std::to_string(hint_visits_max) + " layers and one step ahead");
    return model_layers;
}

} // namespace

result<replay_counts> replay_store(const expert_walk& walk, const replay_options& options, eviction_policy& policy,
                                   trace_predictor* predictor, const std::function<bool(double)>& progress) {
    const auto model_layers = check(walk.trace(), options);
    if (!model_layers)
        return tl::unexpected(model_layers.error());
    replayed_store store(walk, options, *model_layers, policy, predictor);
    replay_counts before;
    const auto steps = static_cast<std::size_t>(std::min<std::uint64_t>(walk.steps(), options.steps_max));
    for (std::size_t step = 0; step < steps; ++step) {
        if (step == options.warm_up_steps)
            before = store.totals();
        store.play(step);
        if (progress && step % progress_steps == 0 && progress(static_cast<double>(step) / static_cast<double>(steps)))
            return fail(errc::cancelled, "stopped after " + std::to_string(step) + " steps");
    }
    return difference(store.totals(), before);
}

} // namespace moira

// Contract 1: placement decides speed, never the answer. The same prompt, seed and settings give one logits hash
// however the runtime is built and disturbed. Every factor alone, then a seeded sample of combinations.
#include "core/route/predictor_file.hpp"
#include "tests/end_to_end/matrix_transport.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <doctest/doctest.h>
#include <filesystem>
#include <map>
#include <random>
#include <unistd.h>

using namespace moira;

namespace {

enum class arrival { alone, batch, mid_flight };

/// One way to build and to disturb a runtime. Slots: 0 takes the share.
struct variation {
    double share = 1.0;
    std::uint64_t slots = 0;
    bool http = false; // in place of tcp or direct
    bool embedded = false; // in place of all of them
    std::int32_t chunk_tokens = 512;
    std::int32_t threads = 1;
    arrival order = arrival::alone;
    bool prefix_reuse = false;
    bool preempt = false;
    bool resize = false;
    bool tcp = false;
    std::string speculation = "off";
    std::string prefetch = "off";
    std::string predictor = "gate"; // that prefetch goes by
    std::string policy; // empty: the default
    std::string kill; // a part that ends twice, as by a crash

    std::string name() const {
        const char* const orders[] = {"alone", "batch of 8", "mid-flight"};
        return (slots > 0 ? std::to_string(slots) + " slots" : std::to_string(static_cast<int>(share * 100)) + " %") +
               ", chunk " + std::to_string(chunk_tokens) + ", threads " + std::to_string(threads) + ", " +
               orders[static_cast<int>(order)] + (prefix_reuse ? ", prefix reuse" : "") +
               (preempt ? ", preempted" : "") + (resize ? ", resized" : "") + (embedded ? ", embedded" : tcp ? ", tcp" : ", direct") +
               ", speculation " + speculation + ", prefetch " + prefetch + " by " +
               predictor.substr(0, predictor.find(':')) + (policy.empty() ? "" : ", policy " + policy) +
               (kill.empty() ? "" : ", kills " + kill);
    }
};

// The bundled model: 7 layers with 32 experts each, 4 of them per token.
constexpr std::uint64_t slots_min = 4, slots_floor = 7 * 4, slots_all = 7 * 32;
constexpr std::int64_t new_tokens = 24;

std::vector<token_id> scrambled_ids(std::size_t count, std::uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<token_id> ids;
    while (ids.size() < count)
        ids.push_back(static_cast<token_id>(3 + random() % 4000));
    return ids;
}

/// Four prompts of 5 to 200 tokens, each greedy and sampled.
std::vector<generation_input> requests() {
    std::vector<generation_input> prompts(4);
    prompts[0].ids = scrambled_ids(5, 1);
    prompts[1].prompt = "Tom had a red ball. Tom liked his red ball. Tom had a red ball. Tom liked his red";
    prompts[2].ids = scrambled_ids(83, 2);
    prompts[3].ids = scrambled_ids(200, 3);
    std::vector<generation_input> all;
    for (const bool sampled : {false, true})
        for (auto input : prompts) {
            input.max_tokens = new_tokens;
            input.ignore_eos = true;
            input.temperature = sampled ? 0.8 : 0.0;
            input.seed = 7;
            all.push_back(std::move(input));
        }
    return all;
}

/// Heads for the bundled model that were never trained: they predict anything at all.
std::string untrained_heads() {
    static const std::string path = [] {
        trained_predictor made;
        made.subject = {"moira-demo", "", 7, 32, 4, 256};
        linear_heads all{7, 32, 256, 3, std::vector<linear_head>(14)};
        std::mt19937 random(3);
        const auto noise = [&](std::size_t count) {
            std::vector<float> values(count);
            for (float& value : values)
                value = static_cast<float>(random() % 2001) / 1000 - 1;
            return values;
        };
        for (std::int32_t ahead = 1; ahead <= heads_ahead_max; ++ahead)
            for (std::int32_t from = 0; from + ahead < 7; ++from)
                all.heads[static_cast<std::size_t>((ahead - 1) * 7 + from)] = {noise(96), noise(768), noise(32)};
        made.heads = std::move(all);
        const auto file = std::filesystem::temp_directory_path() / ("moira_heads_" + std::to_string(::getpid()));
        REQUIRE(write_predictor(file, made));
        return file.string();
    }();
    return "heads:" + path;
}

/// What a hash can be compared within.
struct numerics {
    std::string plugin;
    std::string precision = "keep"; // of experts: a hash group of its own
    double gate_mass = 0;           // of pruning, the same; 0: off
};

std::unique_ptr<local_runtime> start(const variation& how, const numerics& group, std::uint64_t slot_bytes) {
    settings all;
    all.compute.plugin = group.plugin;
    all.experts.precision = group.precision;
    if (group.gate_mass > 0) {
        all.prune.mode = "gate_mass";
        all.prune.gate_mass = group.gate_mass;
    }
    all.compute.threads = how.threads;
    all.batch.max_chunk_tokens = how.chunk_tokens;
    all.context.prefix_reuse = how.prefix_reuse;
    all.speculation.mode = how.speculation;
    all.experts.prefetch = how.prefetch;
    all.experts.predictor = how.predictor;
    if (!how.policy.empty())
        all.experts.policy = how.policy;
    all.server.fault_injection = !how.kill.empty();
    all.experts.ram_budget =
        how.slots > 0 ? memory_budget::of_bytes(how.slots * slot_bytes) : memory_budget::of_share(how.share);
    auto started =
        local_runtime::start(all, {MOIRA_SOURCE_DIRECTORY "/config/models/moira-demo", {MOIRA_BUILD_PLUGINS}});
    REQUIRE_MESSAGE(started, started.error().message);
    return std::move(*started);
}

/// Slots are slabs padded to a cache line or more: 256 bytes cover every plugin's alignment.
std::uint64_t slot_bytes_of(const local_runtime& runtime) {
    return (runtime.slab_bytes() + 255) / 256 * 256;
}

/// Runs all requests under a variation, disturbing them at fixed numbers of tokens.
class matrix_run {
public:
    matrix_run(const variation& how, const numerics& group, std::uint64_t slot_bytes)
        : how_(how), requests_(requests()), outcomes_(requests_.size()), runtime_(start(how, group, slot_bytes)) {
        if (how.embedded) {
            transport_ = std::make_unique<embedded_transport>(*runtime_);
        } else if (how.http) {
            const auto bound = runtime_->listen_http("127.0.0.1:0");
            REQUIRE_MESSAGE(bound, bound.error().message);
            transport_ = std::make_unique<http_transport>(*bound);
        } else if (how.tcp) {
            const auto bound = runtime_->listen_tcp("127.0.0.1:0");
            REQUIRE_MESSAGE(bound, bound.error().message);
            transport_ = std::make_unique<tcp_transport>(*bound);
        } else {
            transport_ = std::make_unique<direct_transport>(*runtime_);
        }
    }

    std::vector<matrix_outcome> outcomes() {
        submit_next();
        if (how_.order == arrival::batch)
            while (submitted_ < requests_.size())
                submit_next();
        while (finished_ < requests_.size())
            take(transport_->next());
        return outcomes_;
    }

    local_runtime& runtime() { return *runtime_; }

private:
    void submit_next() {
        transport_->submit(submitted_, requests_[submitted_]);
        ++submitted_;
    }

    void take(const matrix_event& news) {
        REQUIRE_MESSAGE(news.failure.empty(), news.failure);
        if (news.finished) {
            outcomes_[news.request] = *news.finished;
            ++finished_;
        } else {
            ++tokens_;
            disturb();
        }
        const bool newest = news.request + 1 == submitted_;
        const bool next = how_.order == arrival::mid_flight ? newest : news.finished.has_value();
        if (how_.order != arrival::batch && next && submitted_ < requests_.size())
            submit_next();
    }

    void disturb() {
        if (how_.preempt && tokens_ % 17 == 5)
            runtime_->preempt(8);
        if (!how_.kill.empty() && (tokens_ == 13 || tokens_ == 101))
            CHECK(runtime_->inject_fault(how_.kill));
        if (how_.resize && (tokens_ == 9 || tokens_ == 77))
            resize(slots_all / 4);
        if (how_.resize && tokens_ == 40)
            resize(slots_floor);
        if (how_.resize && tokens_ == 120)
            resize(slots_all);
    }

    void resize(std::uint64_t slots) {
        const auto done = runtime_->resize_experts(slots * slot_bytes_of(*runtime_));
        REQUIRE_MESSAGE(done, done.error().message);
    }

    variation how_;
    std::vector<generation_input> requests_;
    std::vector<matrix_outcome> outcomes_;
    std::unique_ptr<local_runtime> runtime_;
    std::unique_ptr<matrix_transport> transport_; ///< goes before the runtime that it talks to
    std::size_t submitted_ = 0, finished_ = 0, tokens_ = 0;
};

/// The undisturbed answers of one plugin, and comparisons with them.
class matrix {
public:
    explicit matrix(numerics group) : group_(std::move(group)) {
        matrix_run run(variation{}, group_, 0);
        expected_ = run.outcomes();
        slot_bytes_ = slot_bytes_of(run.runtime());
        numerics_ = run.runtime().identity().numerics_id;
        for (const auto& outcome : expected_)
            REQUIRE(outcome.token_ids.size() == static_cast<std::size_t>(new_tokens));
        // Sampling that changed nothing would make half of the matrix a copy of the other half.
        CHECK_FALSE(expected_[3] == expected_[7]);
    }

    void check(const variation& how) {
        INFO(group_.plugin, ", experts ", group_.precision, ", gate mass ", group_.gate_mass, how.http && !how.embedded ? " over HTTP: " : ": ", how.name());
        matrix_run run(how, group_, slot_bytes_);
        const auto found = run.outcomes();
        std::int32_t cached_tokens = 0;
        for (std::size_t request = 0; request < found.size(); ++request) {
            CAPTURE(request);
            CHECK(found[request].logits_hash == expected_[request].logits_hash);
            if (!how.http || how.embedded)
                CHECK(found[request].token_ids == expected_[request].token_ids);
            cached_tokens += found[request].cached_tokens;
        }
        CHECK(run.runtime().identity().numerics_id == numerics_);
        check_disturbed(how, run.runtime(), cached_tokens);
        ++checked_;
    }

    std::size_t checked() const noexcept { return checked_; }
    const std::vector<matrix_outcome>& expected() const noexcept { return expected_; }
    const std::string& numerics_id() const noexcept { return numerics_; }
    std::uint64_t slot_bytes() const noexcept { return slot_bytes_; }

    /// One runtime may draft or prefetch nothing where that does not pay or fit; all together must have.
    void check_speculated() {
        for (const char* const mode : {"ngram", "mtp"}) {
            INFO(mode);
            CHECK(drafted_[mode] > 0);
        }
        CHECK(accepted_["ngram"] + accepted_["mtp"] > 0);
        CHECK(prefetched_ > 0);
        CHECK(control_rows_ > 0);
    }

private:
    /// A variation that did not happen would prove nothing.
    void check_disturbed(const variation& how, local_runtime& runtime, std::int32_t cached_tokens) {
        const auto counters = runtime.statistics();
        REQUIRE(counters);
        if (how.slots > 0 && !how.resize)
            CHECK(counters->experts.slots <= how.slots);
        if (how.slots > 0 && how.slots < slots_floor && !how.resize)
            CHECK(counters->experts.bypass);
        if (how.share < 1.0 && how.slots == 0 && !how.resize)
            CHECK(counters->experts.evictions > 0);
        // A lost stream makes the batcher recompute what runs.
        if (how.preempt || how.kill != "execution_stream")
            CHECK((counters->batch.preemptions > 0) == how.preempt);
        if (!how.kill.empty()) {
            const auto restarts = counters->restarts.find(how.kill);
            REQUIRE(restarts != counters->restarts.end());
            CHECK(restarts->second == 2);
        }
        const auto& speculation = counters->batch.speculation;
        if (how.speculation == "off")
            CHECK(speculation.drafted == 0);
        drafted_[how.speculation] += speculation.drafted;
        accepted_[how.speculation] += speculation.accepted;
        check_prefetched(how, counters->experts);
        const auto& pruning = counters->experts.pruning;
        CHECK(pruning.has_value() == (group_.gate_mass > 0));
        if (pruning)
            CHECK(pruning->all.left_out > 0);
        if (!how.prefix_reuse)
            CHECK(cached_tokens == 0);
        else if (how.order == arrival::alone)
            CHECK(cached_tokens > 0);
    }

    void check_prefetched(const variation& how, const expert_store_statistics& experts) {
        CHECK(experts.prediction.has_value() == (how.prefetch != "off"));
        CHECK(experts.prefetch_loads == experts.prefetch_useful + experts.prefetch_wasted + experts.prefetch_open);
        if (how.prefetch == "off")
            CHECK(experts.prefetch_loads == 0);
        prefetched_ += experts.prefetch_loads;
        if (!experts.prediction)
            return;
        const auto& control = experts.prediction->of(route_source::control);
        control_rows_ += control.rows;
        if (control.rows == 0)
            return; // a short run may end before the predictor has read what it observed
        CHECK(control.recall_at(static_cast<std::size_t>(experts.prediction->top_k)) == 1.0);
    }

    numerics group_;
    std::string numerics_;
    std::vector<matrix_outcome> expected_;
    std::uint64_t slot_bytes_ = 0;
    std::map<std::string, std::uint64_t> drafted_, accepted_;
    std::uint64_t prefetched_ = 0, control_rows_ = 0;
    std::size_t checked_ = 0;
};

std::vector<variation> single_factors() {
    std::vector<variation> all;
    const auto add = [&](auto change) {
        variation how;
        change(how);
        all.push_back(how);
    };
    add([](variation&) {}); // the same once more
    for (const double share : {0.5, 0.25})
        add([&](variation& how) { how.share = share; });
    for (const auto slots : {slots_floor, slots_floor / 2, slots_min})
        add([&](variation& how) { how.slots = slots; });
    add([](variation& how) { how.chunk_tokens = 16; });
    add([](variation& how) { how.http = true; });
    add([](variation& how) { how.embedded = true; });
    add([](variation& how) { how.threads = 2; });
    add([](variation& how) { how.order = arrival::batch; });
    add([](variation& how) { how.order = arrival::mid_flight; });
    add([](variation& how) { how.prefix_reuse = true; });
    add([](variation& how) { how.preempt = true; });
    add([](variation& how) { how.resize = true; });
    add([](variation& how) { how.tcp = true; });
    for (const char* const mode : {"ngram", "mtp", "auto"})
        add([&](variation& how) { how.speculation = mode; });
    for (const char* const prefetch : {"auto", "always"})
        for (const double share : {1.0, 0.5, 0.25})
            add([&](variation& how) {
                how.prefetch = prefetch;
                how.share = share;
            });
    for (const auto& predictor : {std::string("history"), std::string("previous"), std::string("prompt"), std::string("drafted"), untrained_heads()})
        add([&](variation& how) {
            how.prefetch = "always";
            how.share = 0.5;
            how.predictor = predictor;
            how.speculation = predictor == "drafted" ? "ngram" : "off";
        });
    for (const auto slots : {slots_floor, slots_min})
        add([&](variation& how) {
            how.prefetch = "always";
            how.slots = slots;
        });
    for (const std::string_view policy : eviction_policy_names())
        add([&](variation& how) {
            how.policy = policy;
            how.share = 0.25;
        });
    for (const char* const part : {"execution_stream", "expert_cache"})
        add([&](variation& how) { how.kill = part; });
    add([](variation& how) {
        how.kill = "route_predictor";
        how.prefetch = "always";
        how.share = 0.5;
    });
    return all;
}

/// Never std::uniform_int_distribution: its results differ between standard libraries.
variation combination(std::mt19937& random) {
    const auto one_of = [&](const auto& choices) { return choices[random() % std::size(choices)]; };
    const auto coin = [&] { return random() % 2 == 0; };
    variation how;
    how.share = one_of(std::vector{1.0, 0.5, 0.25});
    how.slots = one_of(std::vector<std::uint64_t>{0, 0, 0, slots_floor, slots_floor / 2, slots_min});
    how.chunk_tokens = one_of(std::vector{16, 512});
    how.http = one_of(std::vector{1, 0, 0}) == 1;
    how.embedded = one_of(std::vector{1, 0, 0}) == 1;
    how.threads = one_of(std::vector{1, 2});
    how.order = one_of(std::vector{arrival::alone, arrival::batch, arrival::mid_flight});
    how.prefix_reuse = coin();
    how.preempt = coin();
    how.resize = coin();
    how.tcp = coin();
    how.speculation = one_of(std::vector<std::string>{"off", "ngram", "mtp", "auto"});
    how.prefetch = one_of(std::vector<const char*>{"off", "auto", "always"});
    how.predictor = one_of(std::vector<std::string>{"gate", "history", "previous", "prompt", untrained_heads()});
    how.kill = one_of(std::vector<const char*>{"", "", "execution_stream", "expert_cache", "route_predictor"});
    if (how.kill == "route_predictor" && how.prefetch == "off")
        how.kill.clear(); // nobody predicts
    const auto policies = eviction_policy_names();
    how.policy = policies[random() % policies.size()];
    return how;
}

std::size_t combinations_wanted() {
    constexpr std::size_t combinations_default = 40; // about half a minute
    const char* const wanted = std::getenv("MOIRA_MATRIX_COMBINATIONS");
    return wanted ? std::strtoul(wanted, nullptr, 10) : combinations_default;
}

/// Empty: the processor cannot run it.
bool plugin_runs_here(const std::string& plugin) {
    settings all;
    all.compute.plugin = plugin;
    all.compute.threads = 1;
    return local_runtime::start(all, {MOIRA_SOURCE_DIRECTORY "/config/models/moira-demo", {MOIRA_BUILD_PLUGINS}})
        .has_value();
}

class stopwatch {
public:
    void report(const char* what, std::size_t variations) const {
        const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin_;
        std::printf("exactness matrix, %s: %zu variations of 8 requests in %.1f s\n", what, variations, spent.count());
        std::fflush(stdout);
    }

private:
    std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

} // namespace

TEST_CASE("every factor alone leaves the logits hash as it is, on every vector plugin") {
    for (const std::string plugin : {"cpu_avx512", "cpu_avx2"}) {
        if (!plugin_runs_here(plugin)) {
            MESSAGE(plugin, " cannot run here");
            continue;
        }
        const stopwatch watch;
        matrix all({plugin});
        for (const auto& how : single_factors())
            all.check(how);
        all.check_speculated();
        watch.report(plugin.c_str(), all.checked());
    }
}

TEST_CASE("a seeded sample of combinations leaves the logits hash as it is, on the plugin that is chosen by itself") {
    const stopwatch watch;
    matrix all({""});
    std::mt19937 random(20'240'611);
    const auto wanted = combinations_wanted();
    while (all.checked() < wanted)
        all.check(combination(random));
    if (wanted >= 20) // fewer need not have met every mode
        all.check_speculated();
    watch.report("combinations", all.checked());
}

TEST_CASE("experts rounded to FP8 have hashes of their own, which are as steady") {
    const stopwatch watch;
    const matrix exact({""});
    matrix rounded({"", "fp8"});
    CHECK(rounded.numerics_id() != exact.numerics_id());
    CHECK(rounded.slot_bytes() < exact.slot_bytes());
    for (std::size_t request = 0; request < rounded.expected().size(); ++request)
        CHECK(rounded.expected()[request].logits_hash != exact.expected()[request].logits_hash);
    std::mt19937 random(20'240'612);
    const auto wanted = combinations_wanted() / 4; // a group of its own, the same machinery
    while (rounded.checked() < wanted)
        rounded.check(combination(random));
    watch.report("experts in FP8", rounded.checked());
}

TEST_CASE("experts pruned by gate mass have hashes of their own, which are as steady") {
    const stopwatch watch;
    const matrix exact({""});
    matrix pruned({"", "keep", 0.7});
    CHECK(pruned.numerics_id() != exact.numerics_id());
    CHECK(pruned.slot_bytes() == exact.slot_bytes());
    for (std::size_t request = 0; request < pruned.expected().size(); ++request)
        CHECK(pruned.expected()[request].logits_hash != exact.expected()[request].logits_hash);
    for (const auto& how : single_factors())
        pruned.check(how);
    pruned.check_speculated();
    std::mt19937 random(20'241'124);
    const auto wanted = pruned.checked() + combinations_wanted() / 4;
    while (pruned.checked() < wanted)
        pruned.check(combination(random));
    watch.report("experts pruned by gate mass", pruned.checked());
}

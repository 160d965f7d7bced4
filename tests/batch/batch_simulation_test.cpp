#include "core/batch/batcher.hpp"
#include "core/batch/step_drafts.hpp"

#include "tests/batch/fake_stream.hpp"
#include "tests/batch/reference_generation.hpp"

#include <algorithm>
#include <doctest/doctest.h>
#include <map>
#include <random>
#include <set>

using namespace moira;
using namespace moira::test;

namespace {

/// One seeded run: random limits, arrivals, cancels, preemptions, deadlines and broken steps. Whatever happens, every
/// request gets what it would have got alone, as far as it came.
class simulation {
public:
    explicit simulation(std::uint32_t seed)
        : random_(seed), options_(random_options()), batch_(options_, fake_bytes),
          stream_(options_.kv.pages, options_.kv.page_tokens, fake_vocabulary), troubled_(chance(2)) {
        stream_.mixed_sources = options_.speculation.automatic;
    }

    void run() {
        constexpr int ticks_max = 20'000;
        int ticks = 0;
        while (arrivals_left_ > 0 || !batch_.idle()) {
            REQUIRE(++ticks < ticks_max);
            now_ += std::chrono::milliseconds(1);
            maybe_admit();
            disturb();
            const auto plan = batch_.next_plan(now_);
            if (!plan)
                continue;
            check_bounds(*plan);
            tell_verifier();
            disturbed_ = false;
            disturb();
            maybe_admit();
            REQUIRE(batch_.next_plan(now_) == nullptr);
            if (troubled_ && chance(25))
                break_step(*plan);
            else
                end_step(*plan, run_step(*plan));
        }
        check_end();
    }

    std::uint64_t preemptions() const { return batch_.statistics().preemptions; }
    std::uint64_t cached_tokens() const { return batch_.statistics().cached_tokens; }
    speculation_counts speculation() const { return batch_.statistics().speculation; }

private:
    struct record {
        generation_request request;
        std::vector<token_id> tokens;
        std::string text;
    };

    bool chance(std::uint32_t one_in) { return random_() % one_in == 0; }
    std::int32_t between(std::int32_t low, std::int32_t high) {
        return low + static_cast<std::int32_t>(random_() % static_cast<std::uint32_t>(high - low + 1));
    }

    batch_options random_options() {
        batch_options options;
        options.sequences_max = between(1, 6);
        options.step_tokens_max = between(1, 40);
        options.chunk_tokens_max = between(1, 40);
        options.queue_max = between(1, 8);
        options.context_max = between(10, 60);
        options.vocabulary = fake_vocabulary;
        options.eos = {fake_eos};
        options.kv.page_tokens = between(1, 8);
        options.kv.pages = between(4, 120 / options.kv.page_tokens);
        options.kv.reuse_prefixes = chance(2);
        options.speculation.source = std::vector{draft_source::none, draft_source::ngram, draft_source::model,
                                                 draft_source::model}[random_() % 4];
        options.speculation.draft_max = between(0, 6);
        options.speculation.tokens_before_trial = 0;
        options.speculation.automatic = options.speculation.source != draft_source::none && chance(3);
        return options;
    }

    /// Prompts begin alike, so that prefixes are shared and part at every offset within a page.
    generation_request random_request() {
        generation_request request;
        request.id = {next_id_++};
        const std::int32_t family = between(0, 1);
        const std::int32_t common = between(0, 24);
        for (std::int32_t i = 0; i < common; ++i)
            request.prompt.push_back((i * (3 + family)) % fake_vocabulary);
        for (std::int32_t i = between(1, 6); i > 0; --i)
            request.prompt.push_back(between(0, 2));
        request.tokens_max = between(1, 30);
        request.ignore_eos = chance(3);
        if (chance(2))
            request.stop = {chance(2) ? "ab" : "a\n", "no."};
        request.sampling.seed = random_();
        request.sampling.temperature = chance(2) ? 0.0 : 1.0;
        request.sampling.repetition_penalty = chance(3) ? 1.3 : 1.0;
        request.sampling.top_k = chance(3) ? 5 : 0;
        if (troubled_ && chance(6))
            request.deadline = now_ + std::chrono::milliseconds(between(0, 40));
        return request;
    }

    void maybe_admit() {
        if (arrivals_left_ == 0 || !chance(2))
            return;
        --arrivals_left_;
        generation_request request = random_request();
        const auto admitted = batch_.admit(request, now_);
        const auto waiting = batch_.statistics().waiting;
        REQUIRE(waiting <= options_.queue_max + options_.sequences_max);
        if (admitted) {
            live_.emplace(request.id.value, record{request, {}, {}});
            if (chance(10))
                REQUIRE(batch_.admit(request, now_).error().code == errc::duplicate_id);
            return;
        }
        const auto code = admitted.error().code;
        REQUIRE((code == errc::queue_full || code == errc::prompt_too_long));
        if (code == errc::queue_full)
            REQUIRE(waiting >= options_.queue_max);
    }

    void disturb() {
        if (!troubled_)
            return;
        if (!live_.empty() && chance(12)) {
            disturbed_ = true;
            const auto victim = std::next(live_.begin(), between(0, static_cast<std::int32_t>(live_.size()) - 1));
            auto output = batch_.cancel({victim->first}, finish_reason::cancelled, std::nullopt, now_);
            REQUIRE(output);
            take_one(*output);
        }
        if (chance(15)) {
            disturbed_ = true;
            batch_.preempt(between(1, 3));
        }
    }

    void tell_verifier() {
        auto orders = batch_.take_follow_orders();
        for (auto& order : orders)
            if (!troubled_ || !chance(30))
                verifier_.follow(std::move(order));
    }

    /// The verdict comes with the result, later, or not at all, and now and then the verifier has forgotten everything.
    void end_step(const step_plan& plan, const step_result& outcome) {
        REQUIRE((plan.holds_drafts || !batch_.drafts_in_flight()));
        REQUIRE((plan.to_verify || !plan.holds_drafts));
        const auto verdict = verifier_.judge(plan.number, drafts_of(plan, outcome));
        if (late_ && chance(2))
            batch_.take_proposals(*std::exchange(late_, std::nullopt));
        if (troubled_ && chance(4)) {
            take(batch_.advance(outcome, now_));
            if (chance(2))
                late_ = verdict;
        } else {
            take(batch_.advance(outcome, now_, &verdict));
        }
        if (troubled_ && chance(20)) {
            verifier_.forget_all();
            batch_.follow_again();
        }
        REQUIRE(verifier_.followed() <= 16);
    }

    /// With costs that make no sense, which must matter to nothing but speed.
    step_result run_step(const step_plan& plan) {
        step_result outcome = stream_.run(plan);
        outcome.compute_s = chance(4) ? 0.0 : between(1, 5) * 1e-3;
        if (options_.speculation.source == draft_source::model)
            for (auto& [id, known] : live_)
                offer(plan, known, outcome);
        return outcome;
    }

    /// What really comes next, with a mistake now and then.
    void offer(const step_plan& plan, const record& known, step_result& outcome) {
        std::vector<token_id> draft, sampled;
        for (std::size_t i = 0; i < plan.samples.size(); ++i)
            if (plan.samples[i].request == known.request.id) {
                if (plan.samples[i].follows_draft)
                    draft.push_back(plan.tokens[static_cast<std::size_t>(plan.samples[i].row)]);
                sampled.push_back(outcome.samples[i].token);
            }
        if (sampled.empty() || chance(8))
            return;
        const auto all = generate_alone(known.request, options_.context_max).token_ids;
        offered_draft& made = outcome.offered.emplace_back();
        made.request = known.request.id;
        for (auto next = known.tokens.size() + count_accepted(draft, sampled) + 1; next < all.size(); ++next)
            made.tokens.push_back(chance(5) ? between(0, fake_vocabulary - 1) : all[next]);
        if (chance(40))
            made.tokens.push_back(fake_vocabulary);
    }

    void break_step(const step_plan& plan) {
        const auto outputs = batch_.advance(stream_.break_down(plan), now_);
        const auto broken = std::ranges::count_if(outputs, [](const sequence_output& each) {
            return each.finished && each.finished->failure && each.finished->failure->code == errc::device_error;
        });
        if (!disturbed_)
            REQUIRE(broken == plan.sequences);
        take(outputs);
    }

    void take(const std::vector<sequence_output>& outputs) {
        std::set<std::uint64_t> ids;
        for (const sequence_output& each : outputs) {
            REQUIRE(ids.insert(each.id.value).second);
            take_one(each);
        }
    }

    void take_one(const sequence_output& output) {
        const auto found = live_.find(output.id.value);
        REQUIRE(found != live_.end());
        record& known = found->second;
        for (const emitted_token& each : output.tokens) {
            known.tokens.push_back(each.token);
            known.text += each.text;
        }
        known.text += output.tail_text;
        if (!output.finished)
            return;
        check_result(known, *output.finished);
        live_.erase(found);
    }

    void check_result(const record& known, const generation_result& result) {
        REQUIRE(result.token_ids == known.tokens);
        REQUIRE(result.text == known.text);
        // One that was ended early is a request for fewer tokens.
        generation_request request = known.request;
        const bool early = result.reason == finish_reason::cancelled || result.reason == finish_reason::error;
        if (early)
            request.tokens_max = static_cast<std::int32_t>(known.tokens.size());
        REQUIRE(early == (result.reason == finish_reason::cancelled || result.failure.has_value()));
        const auto expected = generate_alone(request, options_.context_max);
        REQUIRE(result.token_ids == expected.token_ids);
        REQUIRE(result.logits_hash == expected.logits_hash);
        REQUIRE(result.text == expected.text);
        if (!early)
            REQUIRE(result.reason == expected.reason);
        ++ended_;
    }

    void check_bounds(const step_plan& plan) {
        REQUIRE(plan.rows() <= options_.step_tokens_max);
        REQUIRE(plan.sequences <= options_.sequences_max);
        std::map<std::int32_t, std::int32_t> rows;
        for (const moira_attention_row& row : plan.attention_rows)
            ++rows[row.page_table_offset];
        for (const auto& [offset, count] : rows)
            REQUIRE(count <= options_.chunk_tokens_max);
    }

    void check_end() {
        const auto counts = batch_.statistics();
        REQUIRE(live_.empty());
        REQUIRE(counts.pages_free == counts.pages_total);
        REQUIRE(counts.admitted == ended_);
        REQUIRE(counts.finished + counts.cancelled + counts.failed == ended_);
        REQUIRE(counts.speculation.accepted <= counts.speculation.drafted);
        const bool speculates = options_.speculation.source != draft_source::none && options_.speculation.draft_max > 0;
        REQUIRE((speculates || counts.speculation.drafted == 0));
    }

    std::mt19937 random_;
    batch_options options_;
    batcher batch_;
    fake_stream stream_;
    draft_verifier verifier_{{}};
    std::optional<step_verdict> late_;
    bool troubled_;
    bool disturbed_ = false; ///< somebody left the step in flight
    int arrivals_left_ = 14;
    std::uint64_t next_id_ = 1;
    std::uint64_t ended_ = 0;
    std::map<std::uint64_t, record> live_;
    batcher::time_point now_{std::chrono::seconds(1000)};
};

} // namespace

TEST_CASE("whatever happens around it, a request gives what it gives alone") {
    std::uint64_t preemptions = 0;
    std::uint64_t cached_tokens = 0;
    speculation_counts speculation;
    for (std::uint32_t seed = 0; seed < 500; ++seed) {
        INFO("seed ", seed);
        simulation scenario(seed);
        scenario.run();
        preemptions += scenario.preemptions();
        cached_tokens += scenario.cached_tokens();
        speculation.drafted += scenario.speculation().drafted;
        speculation.accepted += scenario.speculation().accepted;
    }
    // The scenarios reach what they are for.
    CHECK(preemptions > 500);
    CHECK(cached_tokens > 1'000);
    CHECK(speculation.accepted > 1'000);
    CHECK(speculation.drafted > speculation.accepted + 1'000);
}

#include "tests/actors/actor_world.hpp"

#include "actors/speculative_verifier.hpp"

#include <doctest/doctest.h>

namespace moira {

world_config::world_config() {
    add_message_types<caf::id_block::moira>();
    set("scheduler.policy", caf::atom("testing"));
    set("logger.verbosity", caf::atom("quiet"));
}

std::size_t sink_record::tokens(std::uint64_t tag) const {
    std::size_t count = 0;
    for (const auto& batch : batches)
        for (const auto& event : batch->events)
            count += event.tag == tag ? event.tokens.size() : 0;
    return count;
}

std::optional<generation_result> sink_record::finished(std::uint64_t tag) const {
    std::optional<generation_result> end;
    for (const auto& batch : batches)
        for (const auto& event : batch->events)
            if (event.tag == tag) {
                CHECK_FALSE(end);
                end = event.finished;
            }
    return end;
}

namespace {

execution_stream_actor spawn_held_stream(caf::actor_system& system, const std::shared_ptr<held_steps>& steps) {
    return system.spawn([steps](execution_stream_actor::pointer) -> execution_stream_actor::behavior_type {
        return {
            [steps](run_step_atom, const step_plan_ptr& plan, const step_listener_actor&) {
                steps->plans.push_back(plan);
                ++steps->handed_out;
            },
            [](observe_atom, const route_predictor_actor&) {},
            [](verifier_atom, const speculative_verifier_actor&) {},
        };
    });
}

constexpr std::int32_t vocabulary = 100, context_max = 64, page_tokens = 4;

std::shared_ptr<const intake_rules> ids_only_rules() {
    auto rules = std::make_shared<intake_rules>();
    rules->vocabulary = vocabulary;
    rules->context_max = context_max;
    return rules;
}

} // namespace

actor_world::actor_world(const options& wanted) : system_(config_) {
    stream_ = spawn_held_stream(system_, steps);
    batcher_actor_options options_of_batcher;
    auto& batch = options_of_batcher.batch;
    batch.sequences_max = wanted.sequences_max;
    batch.queue_max = wanted.queue_max;
    batch.step_tokens_max = 32;
    batch.chunk_tokens_max = 32;
    batch.context_max = context_max;
    batch.vocabulary = vocabulary;
    batch.eos = {1};
    batch.kv.pages = 64;
    batch.kv.page_tokens = page_tokens;
    options_of_batcher.token_bytes = [](token_id) { return std::string_view("x"); };
    options_of_batcher.step_timeout = wanted.step_timeout;
    options_of_batcher.identity = std::make_shared<runtime_identity>();
    if (wanted.drafts) {
        verifier = spawn_speculative_verifier(system_, {});
        batch.speculation.source = draft_source::ngram;
        options_of_batcher.verifier = verifier;
        options_of_batcher.verdict_wait_max = wanted.verdict_wait_max;
    }
    batcher = spawn_batcher(system_, options_of_batcher, stream_);
    intake_options options_of_intake;
    options_of_intake.rules = ids_only_rules();
    options_of_intake.open_max = wanted.open_max;
    intake = spawn_intake(system_, options_of_intake, batcher);
    sink = spawn_sink(record);
    settle();
}

actor_world::~actor_world() {
    end_now(intake, caf::exit_reason::kill);
    end_now(batcher, caf::exit_reason::kill);
    if (verifier)
        end_now(verifier, caf::exit_reason::kill);
    end_now(stream_, caf::exit_reason::kill);
    if (sink)
        end_now(sink, caf::exit_reason::kill);
    settle();
}

caf::scheduler::test_coordinator& actor_world::scheduler() {
    return dynamic_cast<caf::scheduler::test_coordinator&>(system_.scheduler());
}

step_result_ptr actor_world::outcome_of(const step_plan& plan) const {
    auto outcome = std::make_shared<step_result>();
    outcome->number = plan.number;
    for (const auto& wanted : plan.samples)
        outcome->samples.push_back({wanted.request, 7, wanted.hash});
    return outcome;
}

void actor_world::answer_batcher() {
    REQUIRE_FALSE(steps->plans.empty());
    answered_ = steps->plans.front();
    steps->plans.pop_front();
    caf::anon_send(batcher, advance_atom{}, outcome_of(*answered_));
    settle();
}

void actor_world::let_verifier_judge() {
    REQUIRE(answered_);
    caf::anon_send(verifier, judge_atom{}, answered_, outcome_of(*answered_));
    settle();
}

void actor_world::answer_step() {
    answer_batcher();
    if (verifier && answered_->holds_drafts)
        let_verifier_judge();
}

void actor_world::restart_verifier() {
    verifier = spawn_speculative_verifier(system_, {});
    caf::anon_send(batcher, verifier_atom{}, verifier);
    settle();
}

void actor_world::fail_step(errc code) {
    REQUIRE_FALSE(steps->plans.empty());
    auto outcome = std::make_shared<step_result>();
    outcome->number = steps->plans.front()->number;
    steps->plans.pop_front();
    outcome->failure = error{code, "as scripted"};
    caf::anon_send(batcher, advance_atom{}, step_result_ptr(std::move(outcome)));
    settle();
}

void actor_world::lose_stream() {
    end_now(stream_, caf::exit_reason::kill);
    settle();
    steps->plans.clear();
    stream_ = spawn_held_stream(system_, steps);
    caf::anon_send(batcher, stream_atom{}, stream_);
    settle();
}

void actor_world::run_to_end() {
    constexpr int steps_max = 1'000;
    for (int step = 0; !steps->plans.empty(); ++step) {
        REQUIRE(step < steps_max);
        answer_step();
    }
}

void actor_world::submit(std::uint64_t tag, const sink_actor& to, std::int64_t max_tokens) {
    auto input = std::make_shared<generation_input>();
    input->ids = std::vector<token_id>{5, 6, static_cast<token_id>(7 + tag % 50)};
    input->max_tokens = max_tokens;
    caf::anon_send(intake, submit_atom{}, tag, generation_input_ptr(std::move(input)), to);
}

void actor_world::cancel(std::uint64_t tag, const sink_actor& to) {
    caf::anon_send(intake, cancel_atom{}, tag, to);
}

sink_actor actor_world::spawn_sink(const std::shared_ptr<sink_record>& heard) {
    return system_.spawn([heard](sink_actor::pointer) -> sink_actor::behavior_type {
        return {
            [heard](const output_batch_ptr& batch) { heard->batches.push_back(batch); },
        };
    });
}

void actor_world::end_sink(sink_actor& gone) {
    end_now(gone, caf::exit_reason::user_shutdown);
    gone = sink_actor();
    settle();
}

} // namespace moira

// The whole runtime on the deterministic scheduler, with a real engine on a tiny model.
#include "actors/supervisor.hpp"

#include "tests/actors/actor_world.hpp"
#include "tests/execute/test_engine.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

class supervised_runtime {
    test_engine engine_; ///< first: its plugins outlive the model and all actors

public:
    supervised_runtime() : engine_(open_engine()), system_(config_) {
        const auto& shape = engine_.model->shape();
        const auto& limits = engine_.model->limits();
        auto rules = std::make_shared<intake_rules>();
        rules->vocabulary = shape.vocabulary;
        rules->context_max = limits.context_max;
        supervisor_options options;
        options.model = std::shared_ptr<engine>(std::move(engine_.model));
        model = options.model;
        options.rules = rules;
        options.identity = std::make_shared<runtime_identity>();
        options.batch.context_max = limits.context_max;
        options.batch.vocabulary = shape.vocabulary;
        options.batch.kv.pages = limits.pages;
        options.batch.kv.page_tokens = limits.page_tokens;
        options.own_thread = false;
        parts = spawn_supervisor(system_, options);
        watch(parts.supervisor, supervisor_ended);
        watch(parts.intake, intake_ended);
        watch(parts.batcher, batcher_ended);
        watch(parts.cache, cache_ended);
        sink_ = system_.spawn([heard = record](sink_actor::pointer) -> sink_actor::behavior_type {
            return {
                [heard](const output_batch_ptr& batch) { heard->batches.push_back(batch); },
            };
        });
        settle();
    }

    ~supervised_runtime() {
        end_now(parts.supervisor, caf::exit_reason::user_shutdown);
        end_now(sink_, caf::exit_reason::user_shutdown);
        settle();
        // An orderly end takes everything along.
        CHECK(all_ended());
    }
    supervised_runtime(const supervised_runtime&) = delete;
    supervised_runtime& operator=(const supervised_runtime&) = delete;

    void settle() { dynamic_cast<caf::scheduler::test_coordinator&>(system_.scheduler()).run(); }

    void submit(std::uint64_t tag, std::int64_t max_tokens = 5) {
        auto input = std::make_shared<generation_input>();
        input->ids = std::vector<token_id>{5, 6, 7};
        input->max_tokens = max_tokens;
        input->ignore_eos = true;
        caf::anon_send(parts.intake, submit_atom{}, tag, generation_input_ptr(std::move(input)), sink_);
        settle();
    }

    /// The answer of a part, or the error that came instead.
    template <class Answer, class Handle, class... Question>
    std::optional<Answer> ask(const Handle& part, Question... question) {
        auto answer = std::make_shared<std::optional<Answer>>();
        system_.spawn([=](caf::event_based_actor* self) {
            self->request(part, caf::infinite, question...)
                .then([answer](const Answer& value) { *answer = value; }, [](const caf::error&) {});
        });
        settle();
        return *answer;
    }

    bool all_ended() const { return *supervisor_ended && *intake_ended && *batcher_ended && *cache_ended; }
    bool any_ended() const { return *supervisor_ended || *intake_ended || *batcher_ended || *cache_ended; }

    std::shared_ptr<engine> model;
    std::shared_ptr<sink_record> record = std::make_shared<sink_record>();
    runtime_handles parts;

private:
    static test_engine open_engine() {
        test_engine::wanted how;
        how.options.context_max = 64;
        how.options.rows_max = 32;
        return test_engine::required(golden_folder("qwen3_moe"), how);
    }

    template <class Handle>
    static void watch(const Handle& part, const std::shared_ptr<bool>& ended) {
        caf::actor_cast<caf::abstract_actor*>(part)->attach_functor([ended] { *ended = true; });
    }

    std::shared_ptr<bool> supervisor_ended = std::make_shared<bool>(false),
                          intake_ended = std::make_shared<bool>(false), batcher_ended = std::make_shared<bool>(false),
                          cache_ended = std::make_shared<bool>(false);
    world_config config_;
    caf::actor_system system_;
    sink_actor sink_;
};

} // namespace

TEST_CASE("the supervised parts answer with a real model, and count what they did") {
    supervised_runtime runtime;
    runtime.submit(1);
    const auto ended = runtime.record->finished(1);
    REQUIRE(ended);
    CHECK(ended->reason == finish_reason::length);
    CHECK(ended->token_ids.size() == 5);
    CHECK(ended->logits_hash.size() == 16);
    const auto counters = runtime.ask<runtime_statistics_ptr>(runtime.parts.supervisor, stats_atom{});
    REQUIRE(counters);
    CHECK((*counters)->batch.finished == 1);
    CHECK((*counters)->batch.completion_tokens == 5);
    CHECK((*counters)->experts.demand_loads > 0);
    CHECK_FALSE((*counters)->draining);
    CHECK_FALSE(runtime.any_ended());
}

TEST_CASE("the expert cache changes the budget, and refuses one below the minimum") {
    supervised_runtime runtime;
    runtime.submit(1);
    const auto few = options_with_slots(6, runtime.model->slab_bytes()).experts_budget_bytes;
    CHECK(runtime.ask<bool>(runtime.parts.cache, resize_atom{}, few) == true);
    CHECK(runtime.ask<bool>(runtime.parts.cache, resize_atom{}, std::uint64_t{10}) == false);
    const auto counters = runtime.ask<expert_statistics_ptr>(runtime.parts.cache, stats_atom{});
    REQUIRE(counters);
    CHECK((*counters)->slots == 6);
    runtime.submit(2);
    REQUIRE(runtime.record->finished(2));
    CHECK(runtime.record->finished(2)->logits_hash == runtime.record->finished(1)->logits_hash);
}

TEST_CASE("draining the supervisor leaves a runtime that refuses and says so") {
    supervised_runtime runtime;
    runtime.submit(1);
    CHECK(runtime.ask<bool>(runtime.parts.supervisor, drain_atom{}) == true);
    runtime.submit(2);
    const auto refused = runtime.record->finished(2);
    REQUIRE(refused);
    REQUIRE(refused->failure);
    CHECK(refused->failure->code == errc::draining);
    const auto counters = runtime.ask<runtime_statistics_ptr>(runtime.parts.supervisor, stats_atom{});
    REQUIRE(counters);
    CHECK((*counters)->draining);
}

TEST_CASE("the death of any part ends the runtime, so that nobody waits for an answer that cannot come") {
    supervised_runtime runtime;
    runtime.submit(1);
    CHECK_FALSE(runtime.any_ended());
    SUBCASE("intake") {
        end_now(runtime.parts.intake, caf::exit_reason::kill);
    }
    SUBCASE("batcher") {
        end_now(runtime.parts.batcher, caf::exit_reason::kill);
    }
    SUBCASE("expert cache") {
        end_now(runtime.parts.cache, caf::exit_reason::kill);
    }
    runtime.settle();
    CHECK(runtime.all_ended());
}

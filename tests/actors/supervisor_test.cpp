// The whole runtime on the deterministic scheduler, with a real engine on a tiny model.
#include "actors/restart_policy.hpp"
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
        supervisor = spawn_supervisor(system_, options);
        watch(supervisor, supervisor_ended);
        sink_ = system_.spawn([this](supervised_sink_actor::pointer) -> supervised_sink_actor::behavior_type {
            return {
                [this](const output_batch_ptr& batch) { record->batches.push_back(batch); },
                [this](intake_atom, const intake_actor& fresh) {
                    intake = fresh;
                    ++intakes_lost;
                },
            };
        });
        intake = *ask<intake_actor>(supervisor, intake_atom{}, sink_);
    }

    ~supervised_runtime() {
        watch(intake, intake_ended);
        end_now(supervisor, caf::exit_reason::user_shutdown);
        end_now(sink_, caf::exit_reason::user_shutdown);
        settle();
        // An orderly end takes everything along.
        CHECK(*supervisor_ended);
        CHECK(*intake_ended);
    }
    supervised_runtime(const supervised_runtime&) = delete;
    supervised_runtime& operator=(const supervised_runtime&) = delete;

    void settle() { dynamic_cast<caf::scheduler::test_coordinator&>(system_.scheduler()).run(); }

    void submit(std::uint64_t tag, std::int64_t max_tokens = 5) {
        auto input = std::make_shared<generation_input>();
        input->ids = std::vector<token_id>{5, 6, 7};
        input->max_tokens = max_tokens;
        input->ignore_eos = true;
        caf::anon_send(intake, submit_atom{}, tag, generation_input_ptr(std::move(input)), sink_actor{sink_});
        settle();
    }

    /// Ends a part as a crash would, and lets the supervisor see to it.
    bool kill(const std::string& part) {
        const bool known = ask<bool>(supervisor, fault_atom{}, part).value_or(false);
        settle();
        return known;
    }

    std::map<std::string, std::uint64_t> restarts() {
        return (*ask<runtime_statistics_ptr>(supervisor, stats_atom{}))->restarts;
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

    bool ended() const { return *supervisor_ended; }

    std::shared_ptr<engine> model;
    std::shared_ptr<sink_record> record = std::make_shared<sink_record>();
    supervisor_actor supervisor;
    intake_actor intake;
    int intakes_lost = 0;

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
                          intake_ended = std::make_shared<bool>(false);
    world_config config_;
    caf::actor_system system_;
    supervised_sink_actor sink_;
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
    const auto counters = runtime.ask<runtime_statistics_ptr>(runtime.supervisor, stats_atom{});
    REQUIRE(counters);
    CHECK((*counters)->batch.finished == 1);
    CHECK((*counters)->batch.completion_tokens == 5);
    CHECK((*counters)->experts.demand_loads > 0);
    CHECK_FALSE((*counters)->draining);
    CHECK_FALSE(runtime.ended());
}

TEST_CASE("the expert cache changes the budget, and refuses one below the minimum") {
    supervised_runtime runtime;
    runtime.submit(1);
    const auto few = options_with_slots(6, runtime.model->slab_bytes()).experts_budget_bytes;
    CHECK(runtime.ask<bool>(runtime.supervisor, resize_atom{}, few) == true);
    CHECK(runtime.ask<bool>(runtime.supervisor, resize_atom{}, std::uint64_t{10}) == false);
    const auto counters = runtime.ask<runtime_statistics_ptr>(runtime.supervisor, stats_atom{});
    REQUIRE(counters);
    CHECK((*counters)->experts.slots == 6);
    runtime.submit(2);
    REQUIRE(runtime.record->finished(2));
    CHECK(runtime.record->finished(2)->logits_hash == runtime.record->finished(1)->logits_hash);
}

TEST_CASE("draining the supervisor leaves a runtime that refuses and says so") {
    supervised_runtime runtime;
    runtime.submit(1);
    CHECK(runtime.ask<bool>(runtime.supervisor, drain_atom{}) == true);
    runtime.submit(2);
    const auto refused = runtime.record->finished(2);
    REQUIRE(refused);
    REQUIRE(refused->failure);
    CHECK(refused->failure->code == errc::draining);
    const auto counters = runtime.ask<runtime_statistics_ptr>(runtime.supervisor, stats_atom{});
    REQUIRE(counters);
    CHECK((*counters)->draining);
}

TEST_CASE("a lost stream or expert cache is started again, and nobody but the statistics hears of it") {
    supervised_runtime runtime;
    runtime.submit(1);
    std::string part;
    SUBCASE("execution stream") { part = "execution_stream"; }
    SUBCASE("expert cache") { part = "expert_cache"; }
    CHECK(runtime.kill(part));
    runtime.submit(2);
    REQUIRE(runtime.record->finished(2));
    CHECK(runtime.record->finished(2)->logits_hash == runtime.record->finished(1)->logits_hash);
    CHECK(runtime.restarts() == std::map<std::string, std::uint64_t>{{part, 1}});
    CHECK(runtime.intakes_lost == 0);
    CHECK_FALSE(runtime.ended());
}

TEST_CASE("a lost front is started again, and sinks hear where to submit") {
    supervised_runtime runtime;
    runtime.submit(1);
    std::string part, counted;
    SUBCASE("intake") { counted = part = "intake"; }
    SUBCASE("batcher") { counted = part = "batcher"; }
    SUBCASE("tokenize worker") {
        part = "tokenize_worker";
        counted = "intake";
    }
    CHECK(runtime.kill(part));
    CHECK(runtime.intakes_lost == 1);
    runtime.submit(2);
    REQUIRE(runtime.record->finished(2));
    CHECK(runtime.record->finished(2)->logits_hash == runtime.record->finished(1)->logits_hash);
    CHECK(runtime.restarts() == std::map<std::string, std::uint64_t>{{counted, 1}});
}

TEST_CASE("a part that keeps ending ends the runtime") {
    supervised_runtime runtime;
    for (std::size_t i = 0; i < restart_policy::restarts_max; ++i) {
        CHECK(runtime.kill("expert_cache"));
        CHECK_FALSE(runtime.ended());
    }
    runtime.kill("expert_cache");
    CHECK(runtime.ended());
}

TEST_CASE("a fault names a part") {
    supervised_runtime runtime;
    CHECK_FALSE(runtime.kill("nobody"));
    CHECK_FALSE(runtime.kill("tcp_gateway"));  // none is open
    CHECK(runtime.restarts().empty());
}

#pragma once

#include "actors/batcher.hpp"
#include "actors/caf_edition.hpp"
#include "actors/intake.hpp"

#include <caf/scheduler/test_coordinator.hpp>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

namespace moira {

struct world_config : caf::actor_system_config {
    world_config();
};

/// Everything that one sink has heard.
struct sink_record {
    std::vector<output_batch_ptr> batches;

    std::size_t tokens(std::uint64_t tag) const;
    /// The end of a request; the test fails when it ended twice or had news after its end.
    std::optional<generation_result> finished(std::uint64_t tag) const;
};

/// Plans that the batcher has handed out and nobody has answered.
struct held_steps {
    std::deque<step_plan_ptr> plans;
    std::size_t handed_out = 0;
};

/// Intake, its worker and a batcher on CAF's deterministic scheduler: nothing moves until a test says so. The stream is
/// the test itself: it answers steps when it likes.
class actor_world {
public:
    struct options {
        std::size_t open_max = 8;
        std::int32_t sequences_max = 4, queue_max = 4;
        std::chrono::seconds step_timeout{300};
        bool drafts = false;  ///< by repetition, judged by a verifier that the test ends or silences
        std::chrono::milliseconds verdict_wait_max{0};
    };

    actor_world() : actor_world(options()) {}
    explicit actor_world(const options& wanted);
    ~actor_world();
    actor_world(const actor_world&) = delete;
    actor_world& operator=(const actor_world&) = delete;

    /// Lets every actor handle everything that waits.
    void settle() { scheduler().run(); }

    /// Answers the step in flight with token 7 for every sample, or with a failure, and settles.
    void answer_step();
    void fail_step(errc code);

    /// Answers the step in flight to the batcher alone, or lets the verifier judge the plan answered last.
    void answer_batcher();
    void let_verifier_judge();
    void restart_verifier();

    /// Ends the stream with the step in flight, if any, and gives the batcher a new one.
    void lose_stream();

    /// Answers steps until there are none.
    void run_to_end();

    void submit(std::uint64_t tag, const sink_actor& sink, std::int64_t max_tokens = 2);
    void cancel(std::uint64_t tag, const sink_actor& sink);

    sink_actor spawn_sink(const std::shared_ptr<sink_record>& record);
    void end_sink(sink_actor& sink);

    /// Asks a part to drain; set when it has answered.
    template <class Handle>
    std::shared_ptr<std::optional<bool>> ask_drain(const Handle& part) {
        auto answer = std::make_shared<std::optional<bool>>();
        system_.spawn([answer, part](caf::event_based_actor* self) {
            self->request(part, caf::infinite, drain_atom{})
                .then([answer](bool ended) { *answer = ended; }, [answer](const caf::error&) { *answer = false; });
        });
        settle();
        return answer;
    }

    caf::actor_system& system() { return system_; }
    caf::scheduler::test_coordinator& scheduler();

    std::shared_ptr<sink_record> record = std::make_shared<sink_record>();
    std::shared_ptr<held_steps> steps = std::make_shared<held_steps>();
    sink_actor sink;
    intake_actor intake;
    batcher_actor batcher;
    speculative_verifier_actor verifier;

private:
    step_result_ptr outcome_of(const step_plan& plan) const;

    world_config config_;
    caf::actor_system system_;
    execution_stream_actor stream_;
    step_plan_ptr answered_;
};

} // namespace moira

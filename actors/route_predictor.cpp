#include "actors/route_predictor.hpp"

#include "actors/caf_edition.hpp"

#include <optional>

namespace moira {

namespace {

class route_predictor_state {
public:
    route_predictor_state() = default;

    using pointer = route_predictor_actor::stateful_pointer<route_predictor_state>;

    void start(const std::shared_ptr<route_board>& board) {
        board_ = board;
        known_.emplace(board->layers(), board->ranks());
        observe(); // whoever learned before may have been told and died
    }

    void observe() { board_->learn(*known_); }

private:
    std::shared_ptr<route_board> board_;
    std::optional<route_calibration> known_;
};

route_predictor_actor::behavior_type route_predictor(route_predictor_state::pointer self,
                                                     const std::shared_ptr<route_board>& board) {
    self->state.start(board);
    return {
        [self](observe_atom) { self->state.observe(); },
    };
}

}  // namespace

route_predictor_actor spawn_route_predictor(caf::actor_system& system, const std::shared_ptr<route_board>& board) {
    return spawn_part<route_predictor_actor, route_predictor_state>(system, route_predictor, board);
}

}  // namespace moira

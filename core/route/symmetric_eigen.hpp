#pragma once

#include <cstddef>
#include <vector>

namespace moira {

/// Eigenvectors of a symmetric matrix [n, n] by cyclic Jacobi rotations (Golub and Van Loan, section 8.5): rows of the
/// answer [n, n], those of the largest eigenvalue first. n^3 steps per sweep; ends when nothing is left to rotate or
/// after 30 sweeps, which no symmetric matrix needs.
std::vector<double> symmetric_eigenvectors(std::vector<double> matrix, std::size_t n);

} // namespace moira

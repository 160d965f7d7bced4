#include "core/route/symmetric_eigen.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace moira {
namespace {

constexpr int sweeps_max = 30;

/// Off-diagonal elements below this share of the diagonal's size are zero as far as ranking directions goes.
constexpr double tolerance = 1e-10;

/// Rotates rows and columns p and q so that matrix[p, q] becomes 0.
void rotate(std::vector<double>& matrix, std::vector<double>& vectors, std::size_t n, std::size_t p, std::size_t q) {
    const double theta = (matrix[q * n + q] - matrix[p * n + p]) / (2 * matrix[p * n + q]);
    const double tangent = (theta >= 0 ? 1.0 : -1.0) / (std::abs(theta) + std::sqrt(theta * theta + 1));
    const double cosine = 1 / std::sqrt(tangent * tangent + 1), sine = tangent * cosine;
    for (std::size_t i = 0; i < n; ++i) {
        const double a = matrix[i * n + p], b = matrix[i * n + q];
        matrix[i * n + p] = cosine * a - sine * b;
        matrix[i * n + q] = sine * a + cosine * b;
    }
    const auto mix_rows = [n, p, q, cosine, sine](std::vector<double>& rows) {
        for (std::size_t i = 0; i < n; ++i) {
            const double a = rows[p * n + i], b = rows[q * n + i];
            rows[p * n + i] = cosine * a - sine * b;
            rows[q * n + i] = sine * a + cosine * b;
        }
    };
    mix_rows(matrix);
    mix_rows(vectors);
}

} // namespace

std::vector<double> symmetric_eigenvectors(std::vector<double> matrix, std::size_t n) {
    std::vector<double> vectors(n * n, 0.0);
    for (std::size_t i = 0; i < n; ++i)
        vectors[i * n + i] = 1;
    double size = 0;
    for (std::size_t i = 0; i < n; ++i)
        size = std::max(size, std::abs(matrix[i * n + i]));
    bool rotated = true;
    for (int sweep = 0; sweep < sweeps_max && rotated; ++sweep) {
        rotated = false;
        for (std::size_t p = 0; p < n; ++p)
            for (std::size_t q = p + 1; q < n; ++q)
                if (std::abs(matrix[p * n + q]) > tolerance * size) {
                    rotate(matrix, vectors, n, p, q);
                    rotated = true;
                }
    }
    std::vector<std::size_t> order(n);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return matrix[a * n + a] > matrix[b * n + b]; });
    std::vector<double> sorted(n * n);
    for (std::size_t i = 0; i < n; ++i)
        std::copy_n(vectors.begin() + static_cast<std::ptrdiff_t>(order[i] * n), n,
                    sorted.begin() + static_cast<std::ptrdiff_t>(i * n));
    return sorted;
}

} // namespace moira

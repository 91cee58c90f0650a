/* 2^x of a fraction in vectors of any width, for the files that define vec, vec_set and vec_fma. */

/* 2^x for x in [-1/2, 1/2], to three units in the last place: Taylor's polynomial, whose next term is below 2^-23. */
static inline vec exp2_of_fraction(vec x)
{
    vec power = vec_set(1.5403530393381609e-4F); /* ln(2)^i / i! */
    power = vec_fma(power, x, vec_set(1.3333558146428443e-3F));
    power = vec_fma(power, x, vec_set(9.618129107628477e-3F));
    power = vec_fma(power, x, vec_set(5.550410866482158e-2F));
    power = vec_fma(power, x, vec_set(0.24022650695910072F));
    power = vec_fma(power, x, vec_set(0.6931471805599453F));
    return vec_fma(power, x, vec_set(1));
}

import unittest

from greeter.greetings import BadRequest, choose, greet


class Greet(unittest.TestCase):
    def test_english_is_the_default(self):
        self.assertEqual(greet("Ada"), "Hello, Ada!")

    def test_the_language_asked_for_is_used(self):
        self.assertEqual(greet("Ada", "de"), "Guten Tag, Ada!")

    def test_spaces_around_and_within_a_name_are_tidied(self):
        self.assertEqual(greet("  Ada   Lovelace "), "Hello, Ada Lovelace!")

    def test_an_empty_name_is_refused(self):
        with self.assertRaises(BadRequest):
            greet("   ")

    def test_a_name_that_is_too_long_is_refused(self):
        with self.assertRaises(BadRequest):
            greet("a" * 81)


class Choose(unittest.TestCase):
    def test_weights_count_before_order(self):
        self.assertEqual(choose("de;q=0.5, fr;q=0.9"), "fr")

    def test_regions_are_ignored(self):
        self.assertEqual(choose("fr-CA"), "fr")

    def test_an_unknown_language_is_passed_over(self):
        self.assertEqual(choose("tlh, de;q=0.1"), "de")

    def test_a_weight_of_zero_means_never(self):
        self.assertEqual(choose("de;q=0"), "en")

    def test_a_weight_that_is_no_number_is_passed_over(self):
        self.assertEqual(choose("de;q=much, fr"), "fr")

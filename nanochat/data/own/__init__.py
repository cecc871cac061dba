"""The user's own data: text to pretrain on, conversations to finetune on, a persona."""
